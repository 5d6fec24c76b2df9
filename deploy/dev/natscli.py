"""The command `nats`, as operators and other tools use it: for tests of the examples and of what the docs say to type.

Built once, of one pinned version, into the user's cache (half a minute). `python -m deploy.dev.natscli` prints where.
"""

import sys
from pathlib import Path

from deploy.dev.binaries import Build, BuildError, provide_one
from deploy.dev.go import GoMissingError

NATSCLI_VERSION = "0.5.1"

BUILD = Build(
    "nats",
    f"natscli-{NATSCLI_VERSION}",
    "natscli",
    "github.com/nats-io/natscli/nats",
    f"-X main.version={NATSCLI_VERSION}",
)


def nats_command() -> Path:
    """The program, built if need be; raises GoMissingError or BuildError."""
    return provide_one(BUILD)


def main() -> int:
    """Build it if need be and print where it is; 1 with one line when that can't be."""
    try:
        print(nats_command())
    except (GoMissingError, BuildError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
