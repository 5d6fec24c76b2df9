"""Virtual time: a loop whose clock jumps to the next timer whenever nothing else is to be done.

For code that reads its loop's clock and talks to stand-ins only: a real socket would never get the time.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at 1000 s; a test may set `now` forward itself."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self))
        self.now = 1000.0
        self._clock_resolution = 1e-6  # finer, and timers are missed by a clock that stands at years

    def time(self) -> float:
        return self.now


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The test on a loop of its own with virtual time."""

    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test())

    functools.update_wrapper(run, test, updated=())
    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would take it for a coroutine function
    return run


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout:
            self._loop.now += timeout
        return found
