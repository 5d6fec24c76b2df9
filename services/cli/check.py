"""`moorgate check IMAGE…`: what Anchore says of images, gate by gate; an unknown one is scanned while you wait.

A verdict is not a decision: whitelist, mode and ImagePolicies belong to a namespace and are applied at the admission.

Exit codes: 0 every image passes, 1 one fails, 2 a flag or an image is no good, 3 of one there is no verdict, and none fails.
"""

import asyncio
import sys
from collections.abc import Callable

import msgspec

from services.cli import frame
from services.cli.check_text import report, waiting
from services.cli.frame import Flag, NatsFlags, Text
from services.cli.output import emit
from services.cli.verdict_questions import ask
from shared import images
from shared.broker import Broker
from shared.contracts import Outcome, VerdictAnswer
from shared.errors import BadImage, BadSetting, Refused, Retryable
from shared.images import ImageReference
from shared.settings import parse_duration
from shared.tenants import DEFAULT_TENANT

FIRST_LOOK, LOOK = 1.0, 10.0
"""Seconds the first question and each later one waits: then there is news to show."""

AT_ONCE = 8
"""Images asked about at the same time: a gateway lets 64 questions wait, of everybody."""

BETWEEN = 1.0
"""Seconds between two questions about one image at least."""


class Checked(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What came of one image."""

    image: str
    """As it was given."""
    answer: VerdictAnswer | None = None
    trouble: str = ""
    """Why there is no answer."""

    @property
    def outcome(self) -> Outcome:
        """No answer is no verdict."""
        return self.answer.outcome if self.answer else Outcome.ERROR


def command(
    *image: str,
    tenant: str = DEFAULT_TENANT,
    bundle: str = "",
    wait: str = "5m",
    output: Text = "text",
    where: NatsFlags = NatsFlags(),  # noqa: B008  a value that never changes
    verbose: Flag = False,
) -> int:
    """Ask what Anchore says of images; those that are not known are scanned. Exit codes: 0 all pass, 1 one fails, 3 no verdict.

    Parameters
    ----------
    image
        As a Pod would name it; several may be given.
    tenant
        Whose Anchore account judges.
    bundle
        Id of the policy bundle to judge by; without it the tenant's active one.
    wait
        How long a scan is waited for, such as 5m; 0 tells what is known now.
    verbose
        Show the logs of connections too.
    """
    try:
        wanted, seconds = _wanted(image), patience(wait)
    except BadSetting as error:
        frame.say(str(error))
        return frame.EXIT_BAD_FLAG

    async def work() -> int:
        async with where.broker() as broker:
            limit = asyncio.Semaphore(AT_ONCE)

            async def one(given: str, reference: ImageReference) -> Checked:
                async with limit:
                    return await find_out(
                        broker, Question(given, reference, tenant, bundle, seconds), progress
                    )

            found = await asyncio.gather(*(one(*each) for each in wanted))
        emit(found, output, "\n\n".join(report(each.image, each.answer, each.trouble) for each in found))
        return _code([each.outcome for each in found])

    return frame.run(work, verbose=verbose)


class Question(msgspec.Struct, frozen=True):
    """About one image."""

    given: str
    reference: ImageReference
    tenant: str
    bundle: str
    seconds: float
    """How long the scan is waited for."""


async def find_out(broker: Broker, question: Question, say: Callable[[str], None]) -> Checked:
    """Ask until there is a verdict, an error, or no time left. Raises `Unavailable` where no gateway answers."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + question.seconds
    answer, trouble, look = None, "", FIRST_LOOK
    while True:
        asked_at, left = loop.time(), deadline - loop.time()
        try:
            answer, trouble = await _ask(broker, question, max(0.0, min(look, left))), ""
        except Retryable as error:
            trouble = str(error)
        except Refused as error:
            return Checked(image=question.given, trouble=str(error).partition(": ")[2])
        if (answer and answer.outcome is not Outcome.PENDING) or loop.time() + BETWEEN >= deadline:
            return Checked(image=question.given, answer=answer, trouble=trouble)
        say(waiting(question.given, answer, trouble, question.seconds - (deadline - loop.time())))
        await asyncio.sleep(max(0.0, asked_at + BETWEEN - loop.time()))
        look = LOOK


async def _ask(broker: Broker, question: Question, seconds: float) -> VerdictAnswer:
    return await ask(broker, question.tenant, str(question.reference), question.bundle, seconds)


def _code(outcomes: list[Outcome]) -> int:
    if Outcome.FAIL in outcomes:
        return frame.EXIT_NO
    return frame.EXIT_OK if set(outcomes) == {Outcome.PASS} else frame.EXIT_UNKNOWN


def _wanted(texts: tuple[str, ...]) -> list[tuple[str, ImageReference]]:
    if not texts:
        raise BadSetting("name an image, as a Pod would: moorgate check nginx:1.27")
    try:
        return [(each, images.parse(each)) for each in dict.fromkeys(texts)]
    except BadImage as error:
        raise BadSetting(str(error)) from error


def patience(text: str) -> float:
    """Seconds that `--wait` says. Raises `BadSetting`."""
    try:
        return parse_duration(text)
    except ValueError:
        raise BadSetting(f"--wait is {text!r}: it must be a duration such as 90s or 5m") from None


def progress(line: str) -> None:
    """One line about what is waited for, beside the output."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201  what is waited for
