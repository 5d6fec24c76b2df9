"""The bundles to upload: the five that come with Moorgate, and the operator's own from files.

The five are kept once, in API v1's format, in `services/cli/bundles`; a file may be in either format. An image that no
mapping of a bundle matches passes, so a bundle without a catch-all mapping is worth a warning.
"""

from importlib import resources
from pathlib import Path

import msgspec

from services.cli.bootstrap import formats
from services.cli.bootstrap.bundle import Bundle
from shared.errors import BadSetting

PREDEFINED = ("allow_all_and_warn", "reject_critical", "reject_high", "block_root", "deny_all")
"""Ids, from the mildest to the strictest."""


def predefined(bundle_id: str) -> Bundle:
    """One of the five."""
    file = resources.files("services.cli") / "bundles" / f"{bundle_id}.json"
    return formats.read(msgspec.json.decode(file.read_bytes()))


def from_file(path: Path, where: str) -> Bundle:
    """The operator's own. Raises `BadSetting`, beginning with `where`."""
    try:
        return formats.read(msgspec.json.decode(path.read_bytes()))
    except OSError as error:
        raise BadSetting(f"{where}: cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadSetting(f"{where}: {path} is no policy bundle: {error}") from error
