"""The outbox' files, as a disk may give them back: what is whole is found and kept, and nothing keeps a gateway from its start."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from services.gateway.metrics import GatewayMetrics
from services.gateway.outbox import records
from services.gateway.outbox.entries import outgoing
from services.gateway.outbox.folder import Folder, Place
from services.gateway.outbox.records import Decision
from services.gateway.outbox.segment import SUFFIX
from shared.errors import BadSetting
from tests.fuzz.checks import check_fault, check_subject

LIMIT = 1024 * 1024
HEADED, FRAMED = b"\x01", b"\x02"
OURS = b'{"type": "ours"}'

_metrics: GatewayMetrics | None = None


def outbox(data: bytes) -> None:
    """A file that another process has left.

    The first byte says how it is read: as it stands, after a good header, or as bodies in good frames, which no fuzzer finds.
    """
    path = Path(tempfile.mkdtemp(prefix="moorgate-fuzz-"))
    try:
        (path / f"{1:016d}{SUFFIX}").write_bytes(_content(data))
        try:
            found = _taken_over(path)
        except BadSetting as error:  # of a newer version
            check_fault(str(error))
            return
        if data[:1] == FRAMED and not any(each[:1] == records.ACKNOWLEDGED for each in _bodies(data)):
            assert found == [_payload(each) for each in _bodies(data) if each[:1] == records.DECISION]
        assert _taken_over(path) == [*found, OURS], "what was whole is lost, or what was appended"
    finally:
        shutil.rmtree(path)


def close() -> None:
    """Nothing is left open."""


def _content(data: bytes) -> bytes:
    if data[:1] == HEADED:
        return records.header() + data[1:]
    if data[:1] == FRAMED:
        return records.header() + b"".join(map(records.framed, _bodies(data)))
    return data


def _bodies(data: bytes) -> list[bytes]:
    return data[1:].split(records.MARKER)


def _payload(body: bytes) -> bytes:
    return body[2 + int.from_bytes(body[1:2]) :]


def _taken_over(path: Path) -> list[bytes]:
    """What stands in the folder, in order; one more is appended."""
    with _opened(path) as folder:
        found = [_decision(folder, place).payload for place in folder.recover()]
        if OURS not in found:
            place = folder.append(records.decision("", OURS))
            assert _decision(folder, place).payload == OURS
        return found


def _decision(folder: Folder, place: Place) -> Decision:
    found = folder.read(place)
    assert found is not None, "found, and not to be read"
    with contextlib.suppress(msgspec.MsgspecError):  # said when its turn comes, and left out
        check_subject(outgoing(found).subject, tokens=5)
    return found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Folder]:
    global _metrics  # noqa: PLW0603  one registry for a million inputs
    _metrics = _metrics or GatewayMetrics(CollectorRegistry())
    folder = Folder(path, LIMIT, _metrics)
    try:
        yield folder
    finally:
        folder.close()
