"""`python -m services.gateway`: settings, logs, run, exit code."""

import sys

from services.gateway import app, config
from shared import lifecycle


def main() -> int:
    """Run until asked to stop; gives the exit code."""
    return lifecycle.start(config.load, app.run)


if __name__ == "__main__":
    sys.exit(main())
