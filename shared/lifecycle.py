"""A process from start to exit code.

Signals are set up once, background tasks live and die together, and a stop is bounded.

SIGTERM or SIGINT sets the `stop` event; the service ends what it has in its own order. If that takes
longer than the hard limit, or a second signal comes, the process exits at once.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import uvloop

from shared import logs
from shared.errors import BadSetting, MoorgateError

HARD_LIMIT = 25.0
"""Seconds a stop may take: less than the 30 s a Pod is given before SIGKILL."""

CANCEL_AGAIN = 0.5
"""Seconds before work that goes on although it was cancelled is cancelled again."""

EXIT_OK, EXIT_FAILED, EXIT_BAD_SETTING = 0, 1, 2
"""Exit codes: stopped as asked; ended by an error; a setting is at fault (the line says which)."""


class ServiceConfig(Protocol):
    """What every service's configuration has."""

    @property
    def log_level(self) -> logs.LogLevel: ...  # noqa: D102
    @property
    def log_format(self) -> logs.LogFormat: ...  # noqa: D102


C = TypeVar("C", bound=ServiceConfig)


def start(
    load: Callable[[Mapping[str, str]], C], run_service: Callable[[C, asyncio.Event], Awaitable[None]]
) -> int:
    """A service's main: settings, logs, run; gives the exit code."""
    try:
        config = load(os.environ)
    except BadSetting as error:
        return explain(error)
    logs.set_up(config.log_level, config.log_format)
    return run(partial(run_service, config))


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run a service until it is asked to stop; gives the exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_stopped(main))
    except BadSetting as error:
        return explain(error)
    except (MoorgateError, OSError, BaseExceptionGroup) as error:
        if bad := _bad_setting(error):
            return explain(bad)
        logs.logger("lifecycle").exception("service_failed", error=str(error))
        return EXIT_FAILED
    return EXIT_OK


def explain(error: BadSetting) -> int:
    """The one line for a setting at fault, and its exit code."""
    line = " ".join(str(error).split())  # a path or a name may hold anything
    print(f"moorgate: {line}", file=sys.stderr)  # noqa: T201  before logs are set up
    return EXIT_BAD_SETTING


def _bad_setting(error: BaseException) -> BadSetting | None:
    """The setting at fault, where background work has wrapped the error in groups."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for each in error.exceptions if (found := _bad_setting(each))), None)
    return error if isinstance(error, BadSetting) else None


@asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` beside the body. What fails in it ends the body too; when the body ends, it is cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        try:
            yield
        finally:
            await _cancel(tasks)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: the `wait_for` of Python 3.11 swallows a cancellation that meets its result.

    Who is cancelled while waiting here waits on and says so at the end: a group that is told twice passes on only the first.
    """
    told: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=CANCEL_AGAIN)
        except asyncio.CancelledError as error:
            told = error
    if told is not None:
        raise told


async def _until_stopped(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def request_stop() -> None:
        if stop.is_set():
            os._exit(EXIT_FAILED)
        stop.set()
        loop.call_later(HARD_LIMIT, os._exit, EXIT_FAILED)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop)
    await main(stop)
