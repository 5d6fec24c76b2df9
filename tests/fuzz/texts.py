"""What people write: image references, patterns and globs, settings, and the files that settings name.

A fault is one line that names what is wrong; the time an input takes does not explode with its length.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import re2

from services.audit_writer import config as audit_writer
from services.audit_writer.notifications import notify_file
from services.cli import webhooks_file
from services.cli.bootstrap import settings as bootstrap
from services.gateway import config as gateway
from services.gateway import policies_file
from services.scanner import config as scanner
from shared import images, subjects, tenants
from shared.errors import BadImage, BadSetting
from shared.policies import PolicySpec, compile_policy
from shared.releases import Release
from shared.settings import KNOWN, Environment
from shared.whitelist import Whitelist, covers_image
from tests.fuzz.checks import check_fault, check_line, check_subject, slow
from tests.support.builders import START, whitelist_item

_FORBIDDEN = set(" \t\r\n*>?#%\"'\\{}|^`<;,$&!()")
_NAMES = sorted(KNOWN | {f"{name}_FILE" for name in KNOWN})


def image(data: bytes) -> None:
    """A reference: normalised once and for all, free of what means something elsewhere, or `BadImage` of one line."""
    text = data.decode(errors="surrogateescape")
    started = time.process_time()
    try:
        found = images.parse.__wrapped__(text)
    except BadImage as error:
        check_line(str(error))
        return
    finally:
        assert time.process_time() - started < slow()
    normal = str(found)
    assert images.parse.__wrapped__(normal) == found
    assert not _FORBIDDEN & set(normal), normal
    assert normal.isascii()
    assert ".." not in normal.split("/"), normal
    key = subjects.verdict_key("default", text, normal) if text.isprintable() else ""
    check_subject(subjects.scan_subject(subjects.Lane.ADMISSION, "default", key), 6)


def pattern(data: bytes) -> None:
    """A whitelist item's pattern and a release's name, parted by NUL: what RE2 alone says of the two."""
    written, _, sought = data.decode(errors="replace").partition("\0")
    if not written:
        return
    started = time.process_time()
    whitelist = Whitelist(cluster_wide=True)
    whitelist.replace([whitelist_item("it", regexp=written[:1024]), whitelist_item("z", regexp="web")])
    found = [item.metadata.name for item in whitelist.covering(_release(sought), "shop", START)]
    assert time.process_time() - started < slow()
    assert ("z" in found) is (sought == "web")
    assert ("it" in found) is _matches(written[:1024], sought)


def _release(name: str) -> Release:
    return Release(name=name, is_fake=False, recorded=name)


def _matches(written: str, sought: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(written, options).fullmatch(sought) is not None
    except re2.error:
        return False


def glob(data: bytes) -> None:
    """Globs of whitelist items and ImagePolicies against an image, parted by NUL."""
    written, _, sought = data.decode(errors="replace").partition("\0")
    started = time.process_time()
    covers_image(whitelist_item("it", images=(written[:512],)), sought, sought)
    compile_policy("p", PolicySpec(images=(written[:512],))).covers_image(sought, sought)
    assert time.process_time() - started < slow()


def settings(data: bytes) -> None:
    """Settings of every service, a line each: a configuration, or the one line that names the setting."""
    variables = {}
    for line in data.decode(errors="surrogateescape").replace("\0", "").splitlines():
        name, _, value = line.partition("=")
        if name.isdecimal():
            name = _NAMES[int(name) % len(_NAMES)] if len(name) < 6 else ""
        # No file of this machine is opened: some devices have no end.
        variables[name] = value if not _is_path(name) else value.replace("/", "")
    for load in (gateway.load, scanner.load, audit_writer.load):
        _refused_in_one_line(lambda load=load: load(variables))  # type: ignore[misc]
    _refused_in_one_line(lambda: bootstrap.load(Environment(variables)))


def _is_path(name: str) -> bool:
    return name.endswith(("_FILE", "_DIR"))


def _refused_in_one_line(load: Callable[[], object]) -> None:
    try:
        load()
    except BadSetting as error:
        check_fault(str(error))


_folder: list[tempfile.TemporaryDirectory[str]] = []


def close() -> None:
    """The folder of the files goes."""
    for each in _folder:
        each.cleanup()
    _folder.clear()


def _written(data: bytes) -> Path:
    if not _folder:
        _folder.append(tempfile.TemporaryDirectory(prefix="moorgate-fuzz-"))
    path = Path(_folder[0].name) / "file.yaml"
    path.write_bytes(data)
    return path


def policies(data: bytes) -> None:
    """`MOORGATE_POLICIES_FILE`."""
    _file(data, policies_file.read)


def tenants_file(data: bytes) -> None:
    """`MOORGATE_TENANTS_FILE`."""
    _file(data, tenants.read)


def notify(data: bytes) -> None:
    """`MOORGATE_NOTIFY_FILE`."""
    _file(data, notify_file.load)


def bootstrap_file(data: bytes) -> None:
    """`MOORGATE_BOOTSTRAP_FILE`."""

    def load(path: Path) -> object:
        return bootstrap.load(Environment({bootstrap.NAME: str(path)}))

    _file(data, load)


def webhooks(data: bytes) -> None:
    """The manifests that `moorgate webhooks apply --file` takes."""
    _file(data, webhooks_file.load)


def _file(data: bytes, load: Callable[[Path], object]) -> None:
    if b"/" in data and b"ile" in data:
        data = data.replace(b"/", b"")  # it may name files: only those of its own folder
    path = _written(data)
    started = time.process_time()
    with contextlib.suppress(BadSetting):
        _refused_in_one_line(lambda: load(path))
    assert time.process_time() - started < slow()
