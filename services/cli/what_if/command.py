"""`moorgate what-if --bundle FILE`: what runs, judged by a bundle that nobody has activated; asked before one is.

It changes no verdict, no Audit and no image, and of Anchore's records only one: the candidate is there, inactive, for as long as
the run takes (held.py). Ctrl-C, SIGTERM and a terminal that is closed end it in order.

Exit codes: 0 nothing would break, 1 a release would, 2 a flag, a setting or the bundle is no good, 3 of an image it could not be
found out (or cluster or Anchore do not answer), and nothing is known to break.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import cyclopts

from services.cli import frame
from services.cli.bootstrap import bundles
from services.cli.frame import ClusterFlags, Text
from services.cli.output import emit
from services.cli.what_if.held import LIFETIME
from services.cli.what_if.outcome import Fate, Release
from services.cli.what_if.run import Asked, Found, find_out
from services.cli.what_if.text import report, shown
from services.scanner.evaluation import OnUnmapped
from shared import lifecycle, tenants
from shared.errors import BadSetting, MoorgateError
from shared.settings import Environment

LONGEST = LIFETIME - 300.0
"""Seconds after which a run gives up: its bundle is to be gone before others take it for a dead run's."""

SAY_EVERY = 5.0
"""Seconds between two lines of progress."""


def command(
    *,
    bundle: Path,
    namespace: Annotated[str | None, cyclopts.Parameter(name=["--namespace", "-n"])] = None,
    tenant: str | None = None,
    replaces: str | None = None,
    output: Text = "text",
    where: ClusterFlags = ClusterFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Say what would break if a policy bundle were activated. Exit codes: 0 nothing, 1 a release, 3 not known.

    Parameters
    ----------
    bundle
        The candidate: a file of JSON, in the format of either API.
    namespace
        Only what runs in this namespace; without it in all.
    tenant
        Only what this tenant judges; without it every tenant whose credentials are given.
    replaces
        Id of the bundle whose place it would take; without it that of the same id where policies name it, else the one in force.
    """
    try:
        asked = _asked(bundle, where.namespace(namespace) if namespace else None, tenant, replaces)
    except BadSetting as error:
        return lifecycle.explain(error)

    async def work() -> int:
        try:
            async with asyncio.timeout(LONGEST):
                found = await find_out(asked, where)
        except TimeoutError:
            raise MoorgateError(
                f"it took longer than {LONGEST / 60:.0f}m: narrow it by --namespace"
            ) from None
        emit(_shown(asked, found), output, report(_head(asked, found), found.releases))
        return _code(found.releases)

    return frame.run(lambda: _until_told(work), verbose=where.verbose)


def _asked(file: Path, namespace: str | None, tenant: str | None, replaces: str | None) -> Asked:
    environment = Environment(os.environ)
    candidate = bundles.from_file(file, "--bundle")
    if not candidate.has_catch_all:
        frame.say(f"{file} has no mapping for all images (registry, repository and tag *): the others pass")
    return Asked(
        file=file,
        bundle=candidate,
        namespace=namespace,
        tenant=tenant,
        replaces=replaces,
        environment=environment,
        tenants=tenants.load(environment).read(),
        on_unmapped=environment.choice("MOORGATE_ON_UNMAPPED", OnUnmapped, OnUnmapped.PASS),
        say=frame.say,
        progress=_Progress(),
    )


def _head(asked: Asked, found: Found) -> list[str]:
    return [
        f"bundle {asked.bundle.id} ({asked.file}) in the place of {replaced} (tenant {tenant})"
        for tenant, replaced in found.replaced.items()
    ]


def _shown(asked: Asked, found: Found) -> dict[str, Any]:
    return {
        "bundle": asked.bundle.id,
        "replaces": found.replaced,
        "releases": [shown(each) for each in found.releases],
    }


def _code(releases: list[Release]) -> int:
    """What cannot be refused need not be known."""
    fates = {image.fate for each in releases for image in each.images if not image.use.let_in_by}
    if Fate.BREAKS in fates:
        return frame.EXIT_NO
    return frame.EXIT_UNKNOWN if Fate.UNKNOWN in fates else frame.EXIT_OK


async def _until_told(work: Callable[[], Awaitable[int]]) -> int:
    """The work, ended in order by what else than Ctrl-C ends programs."""
    loop, task, told = asyncio.get_running_loop(), asyncio.current_task(), 0

    def end(number: int) -> None:
        nonlocal told
        if task is not None and not told:  # a second one must not keep it from clearing up
            told = number
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, end, number)
    try:
        return await work()
    except asyncio.CancelledError:
        if not told:
            raise
        return 128 + told


class _Progress:
    """How far it is, on stderr: in place at a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._said = monotonic()

    def __call__(self, done: int, total: int) -> None:
        """So many are done."""
        line = f"judged {done} of {total} images"
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{line}", end=end, file=sys.stderr, flush=True)  # noqa: T201  what is waited for
        elif monotonic() - self._said >= SAY_EVERY:
            self._said = monotonic()
            print(line, file=sys.stderr, flush=True)  # noqa: T201  what is waited for
