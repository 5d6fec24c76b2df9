"""The stream of dead letters: read one after the other, published again, taken out. It holds no output.

What can be tried again depends on what died:

    scan            its scan state goes first (an abandoned one would be refused at once), then the request is asked anew
    decision        published under a message id of its own: the stream's window would swallow the decision's id, which
                    it has seen; who records decisions folds them by that id, so twice is once
    notification    not at all: the flip's subject is every target's, so the others would hear of it a second time

Published first, then taken out: dying between the two leaves a letter too many, never one too few.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec
import nats.errors
import nats.js.errors

from shared import contracts, subjects
from shared.broker import Broker
from shared.consumer import MAX_PAYLOAD_KEPT
from shared.contracts import DeadLetter
from shared.errors import MoorgateError, Permanent, Unavailable
from shared.verdict_store import VerdictBuckets

ASKED_BY = "moorgate dead retry"


class NoRetry(MoorgateError):
    """The letter cannot be tried again; the text says why, and what helps."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as it lies in the stream."""

    number: int
    """Its sequence: what `retry` and `drop` take."""
    what: str
    letter: DeadLetter | None
    """None: nobody can read it."""


class DeadLetters:
    """All letters."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._buckets = VerdictBuckets(broker)

    async def all(self, what: str | None = None) -> AsyncIterator[Stored]:
        """Oldest first; `what`: only of this kind. Raises `Unavailable`."""
        subject = subjects.dead_subject(what) if what else subjects.DEAD_SUBJECTS
        number = 0
        while (found := await self._read(number + 1, subject)) is not None:
            number = found.number
            yield found

    async def get(self, number: int) -> Stored | None:
        """The letter of this number, or None. Raises `Unavailable`."""
        return await self._read(number)

    async def drop(self, number: int) -> None:
        """Take it out for good; one that is gone already is no fault. Raises `Unavailable`."""
        with _naming():
            try:
                await self._broker.jetstream.delete_msg(subjects.DEAD, number)
            except nats.js.errors.APIError as error:
                if error.err_code != _NO_SUCH_MESSAGE:
                    raise

    async def retry(self, stored: Stored) -> str:
        """Publish again and take the letter out; gives what came of it. Raises `NoRetry` and `Unavailable`."""
        letter = stored.letter
        if letter is None:
            raise NoRetry("the letter cannot be read: drop it")
        match letter.what:
            case "scan":
                outcome = await self._ask_again(letter)
            case "decision":
                outcome = await self._decide_again(letter, stored.number)
            case "notification":
                raise NoRetry(
                    "a notification cannot be sent to one target alone, and the others have it: "
                    "mend the target, tell its people by hand, then drop the letter"
                )
            case _:
                raise NoRetry(f"this version does not know how to try a {letter.what} again")
        await self.drop(stored.number)
        return outcome

    async def _ask_again(self, letter: DeadLetter) -> str:
        request = _decoded(letter, contracts.SCAN_REQUEST)
        lanes = {subjects.scan_subject(lane, request.tenant, request.key) for lane in subjects.Lane}
        if letter.subject not in lanes:
            raise NoRetry("the request is not the one that its subject stands for: drop it")
        anew = msgspec.structs.replace(request, asked_at=datetime.now(UTC), asked_by=ASKED_BY)
        await self._buckets.clear_state(request.key)
        is_taken = await self._broker.publish_unless_waiting(letter.subject, anew)
        return "asked again" if is_taken else "is being asked for already"

    async def _decide_again(self, letter: DeadLetter, number: int) -> str:
        decision = _decoded(letter, contracts.ADMISSION_DECIDED)
        if letter.subject != subjects.decision_subject(decision.namespace):
            raise NoRetry("the decision is not of the namespace that its subject names: drop it")
        headers = self._broker.headers(decision.type_name(), decision.id)
        headers["Nats-Msg-Id"] = f"{decision.id}-dead-{number}"
        await self._broker.publish_raw(letter.subject, letter.payload, headers)
        return "published again"

    async def _read(self, number: int, next_of: str | None = None) -> Stored | None:
        """The letter of this number; with `next_of` the first of this subject from there on."""
        with _naming():
            try:
                message = await self._broker.jetstream.get_msg(
                    subjects.DEAD, number, subject=next_of, next=next_of is not None
                )
            except nats.js.errors.NotFoundError as error:
                if error.err_code == _NO_SUCH_MESSAGE:
                    return None
                raise
        what = str(message.subject).removeprefix(subjects.dead_subject(""))
        try:
            letter = contracts.decode(message.data or b"", contracts.DEAD_LETTER)
        except Permanent:
            letter = None
        return Stored(number=int(message.seq or 0), what=what, letter=letter)


def about(letter: DeadLetter) -> str:
    """What the dead message was about, in a few words."""
    try:
        match letter.what:
            case "scan":
                request = contracts.decode(letter.payload, contracts.SCAN_REQUEST)
                return f"{request.image} (tenant {request.tenant}, bundle {request.bundle_id})"
            case "decision":
                decision = contracts.decode(letter.payload, contracts.ADMISSION_DECIDED)
                return f"{decision.namespace}/{decision.pod_name} {decision.action} ({decision.id})"
            case "notification":
                flip = contracts.decode(letter.payload, contracts.VERDICT_FLIPPED)
                return f"{flip.namespace}/{flip.release}: {flip.image} turned to {flip.result}"
            case _:
                pass
    except Permanent:
        pass
    return f"not readable: {letter.payload[:60]!r}"


def _decoded(letter: DeadLetter, decoder: "contracts.Decoder[contracts.M]") -> "contracts.M":
    if len(letter.payload) >= MAX_PAYLOAD_KEPT:
        raise NoRetry("the message was cut to fit its letter: drop it")
    try:
        return contracts.decode(letter.payload, decoder)
    except Permanent as error:
        raise NoRetry(f"the message cannot be read ({error}): drop it") from error


_NO_SUCH_MESSAGE = 10037
_NO_SUCH_STREAM = 10059


@contextmanager
def _naming() -> Iterator[None]:
    try:
        yield
    except nats.js.errors.APIError as error:
        if error.err_code == _NO_SUCH_STREAM:
            text = f"the stream {subjects.DEAD} is not there: run moorgate streams apply"
            raise Unavailable("nats", text) from error
        raise Unavailable("nats", f"{subjects.DEAD}: {error.description}") from error
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
        raise Unavailable("nats", f"{subjects.DEAD}: {type(error).__name__} {error}") from error
