"""`python -m deploy.dev.anchore --port 0`: a simulator as a program of its own.

Prints one line with the URL when it is ready, and ends at SIGTERM or SIGINT.
"""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from deploy.dev.anchore.settings import Settings
from deploy.dev.anchore.simulator import Simulator


def read_arguments(arguments: list[str]) -> tuple[Settings, list[str]]:
    """The settings, and the images to have analysed already; each setting is an option of its name."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m deploy.dev.anchore", description="A simulator of Anchore Engine."
    )
    for name in Settings.__struct_fields__:
        default = getattr(defaults, name)
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default)
        elif isinstance(default, tuple):
            parser.add_argument(flag, type=_words, default=default, metavar="A,B")
        elif isinstance(default, dict):
            parser.add_argument(flag, type=_pairs, default=default, metavar="NAME=VALUE,…")
        else:
            kind = Path if isinstance(default, Path) else type(default)
            parser.add_argument(flag, type=kind, default=default)
    parser.add_argument(
        "--preload", action="append", default=[], metavar="IMAGE", help="have it analysed already"
    )
    known = vars(parser.parse_args(arguments))
    preloaded: list[str] = known.pop("preload")
    return Settings(**known), preloaded


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _pairs(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in text.split(","))


async def _run(settings: Settings, preloaded: list[str]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Simulator(settings) as simulator:
        for reference in preloaded:
            simulator.preload(reference)
        print(f"Anchore simulator ready at {simulator.url}", flush=True)
        await stopped.wait()


def main() -> int:
    """The exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    asyncio.run(_run(*read_arguments(sys.argv[1:])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
