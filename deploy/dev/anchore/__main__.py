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


def _settings(arguments: list[str]) -> Settings:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m deploy.dev.anchore", description="A simulator of Anchore Engine."
    )
    for name in Settings.__struct_fields__:
        default = getattr(defaults, name)
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default)
        else:
            kind = Path if isinstance(default, Path) else type(default)
            parser.add_argument(flag, type=kind, default=default)
    parser.add_argument(
        "--preload", action="append", default=[], metavar="IMAGE", help="have it analysed already"
    )
    known = vars(parser.parse_args(arguments))
    known.pop("preload")
    return Settings(**known)


def _preloaded(arguments: list[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--preload", action="append", default=[])
    names: list[str] = parser.parse_known_args(arguments)[0].preload
    return names


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
    asyncio.run(_run(_settings(sys.argv[1:]), _preloaded(sys.argv[1:])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
