"""The file format of the outbox: bytes in, records and what is damaged out. It knows no file.

    file     header, then records one after the other
    header   MOORGATE, version (2 bytes), CRC32 of both (4 bytes)
    record   marker (4 bytes), length of the body (4), CRC32 of length and body (4), body
    body     kind (1 byte): D, a decision: length of the trace (1), trace, the event as JSON
                            A, acknowledged: offsets of decisions in this file (4 bytes each)

Numbers are little-endian. The marker's bytes stand in no UTF-8 text, so after damage the next record is found
by looking for it; what bears the marker and not the checksum is no record.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator

import msgspec

MAGIC, VERSION = b"MOORGATE", 1

MARKER = b"\xff\xfdMR"

MAX_BODY = 1024 * 1024
"""Bytes: a message has at most 256 KiB; a length above this is damage."""

_HEADER = struct.Struct("<8sHI")
_FRAME = struct.Struct("<4sII")
_NUMBER = struct.Struct("<I")
HEADER_BYTES, FRAME_BYTES = _HEADER.size, _FRAME.size

DECISION, ACKNOWLEDGED = b"D", b"A"


class Decision(msgspec.Struct, frozen=True):
    """A decision as it stands in the file."""

    offset: int
    size: int
    """Bytes with the frame."""
    trace: str
    payload: bytes
    """The event as JSON."""


class Acknowledged(msgspec.Struct, frozen=True):
    """NATS has these; their offsets in the same file."""

    offsets: tuple[int, ...]


class Damage(msgspec.Struct, frozen=True):
    """Bytes that are no record."""

    begin: int
    end: int


class NewerFormatError(Exception):
    """The header is whole, and of a version that is not known here."""


def header() -> bytes:
    """What a file begins with."""
    plain = struct.pack("<8sH", MAGIC, VERSION)
    return plain + _NUMBER.pack(zlib.crc32(plain))


def decision(trace: str, payload: bytes) -> bytes:
    """A record of one decision. `trace`: at most 255 characters of ASCII."""
    text = trace.encode("ascii")
    return framed(b"D%c%b%b" % (len(text), text, payload))


def acknowledged(offsets: Iterable[int]) -> bytes:
    """A record of what NATS has."""
    return framed(ACKNOWLEDGED + b"".join(map(_NUMBER.pack, offsets)))


def read(content: bytes) -> Iterator[Decision | Acknowledged | Damage]:
    """Everything in a file, in order; each stretch of damage once. Raises `NewerFormatError`."""
    position = HEADER_BYTES if _is_header(content) else 0
    damaged_from: int | None = None
    while position < len(content):
        found = _record_at(content, position)
        if found is None:
            damaged_from = position if damaged_from is None else damaged_from
            following = content.find(MARKER, position + 1)
            position = len(content) if following < 0 else following
            continue
        if damaged_from is not None:
            yield Damage(damaged_from, position)
            damaged_from = None
        record, position = found
        yield record
    if damaged_from is not None:
        yield Damage(damaged_from, len(content))


def _record_at(content: bytes, position: int) -> tuple[Decision | Acknowledged, int] | None:
    """The record that begins here, and where it ends; None: none does."""
    body_at = position + FRAME_BYTES
    if body_at > len(content):
        return None
    marker, length, crc = _FRAME.unpack_from(content, position)
    body = content[body_at : body_at + length] if length <= MAX_BODY else b""
    if marker != MARKER or len(body) != length or crc != _crc(body):
        return None
    record = _record(position, body)
    return (record, body_at + length) if record else None


def _record(position: int, body: bytes) -> Decision | Acknowledged | None:
    """What a whole body says; None: a kind that is not known."""
    if body[:1] == DECISION:
        start = 2 + int.from_bytes(body[1:2], "little")
        trace = body[2:start].decode("ascii", errors="replace")
        return Decision(position, FRAME_BYTES + len(body), trace, body[start:])
    if body[:1] == ACKNOWLEDGED:
        whole = len(body) - (len(body) - 1) % _NUMBER.size
        return Acknowledged(tuple(offset for (offset,) in _NUMBER.iter_unpack(body[1:whole])))
    return None


def framed(body: bytes) -> bytes:
    """The body as a record."""
    return _FRAME.pack(MARKER, len(body), _crc(body)) + body


def _crc(body: bytes) -> int:
    """Over the length too: a length that is wrong and fits by chance is no record."""
    return zlib.crc32(body, zlib.crc32(_NUMBER.pack(len(body))))


def _is_header(content: bytes) -> bool:
    if len(content) < HEADER_BYTES:
        return False
    magic, version, crc = _HEADER.unpack_from(content)
    if magic != MAGIC or crc != zlib.crc32(content[: HEADER_BYTES - _NUMBER.size]):
        return False
    if version != VERSION:
        raise NewerFormatError(version)
    return True
