"""`python -m services.scanner`: settings, logs, run, exit code."""

import os
import sys
from functools import partial

from services.scanner import app, config
from shared import lifecycle, logs
from shared.errors import BadSetting


def main() -> int:
    """Run the scanner until it is asked to stop; gives the exit code."""
    try:
        settings = config.load(os.environ)
    except BadSetting as error:
        return lifecycle.explain(error)
    logs.set_up(settings.log_level, settings.log_format)
    return lifecycle.run(partial(app.run, settings))


if __name__ == "__main__":
    sys.exit(main())
