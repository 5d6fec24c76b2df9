"""The outbox' folder: one process, segments in the order of their numbers, a bound on the bytes.

A new process appends to no file of an old one: it begins its own, and deletes the old ones as NATS acknowledges
what they hold.
"""

import fcntl
import os
from pathlib import Path

import msgspec

from services.gateway.metrics import Damaged, GatewayMetrics
from services.gateway.outbox import records
from services.gateway.outbox.records import Decision, NewerFormatError
from services.gateway.outbox.segment import SUFFIX, Segment
from shared import logs
from shared.errors import BadSetting

SETTING = "MOORGATE_OUTBOX_DIR"

LOCK = "lock"

SHARE = 0.9
"""Of the bytes allowed, the part for decisions: what is acknowledged has to be written down as well."""

SEGMENT_BYTES = 4 * 1024 * 1024
"""Of one file: small enough to be gone soon, large enough to be rare."""

SEGMENTS = 8
"""Files at least that a small folder is divided into."""


class FolderFullError(OSError):
    """The bound is reached."""


class Place(msgspec.Struct, frozen=True):
    """Where a decision stands."""

    segment: Segment
    offset: int
    size: int


class Folder:
    """An open folder, locked."""

    def __init__(self, path: Path, limit: int, metrics: GatewayMetrics) -> None:
        """Raises `BadSetting` where it cannot be used."""
        self.path = path
        self.size = 0
        """Bytes of all files."""
        self._limit = int(limit * SHARE)
        self._segment_bytes = min(SEGMENT_BYTES, self._limit // SEGMENTS)
        self._metrics = metrics
        self._log = logs.logger("outbox")
        self._segments: list[Segment] = []
        self._number = 0
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(path)
        except OSError as error:
            raise BadSetting(f"{SETTING}: {path} cannot be used: {error.strerror}") from error

    def recover(self) -> list[Place]:
        """What another process has left unacknowledged, the oldest first. Raises `BadSetting`."""
        found: list[Place] = []
        try:
            for path in sorted(self.path.glob(f"*{SUFFIX}"), key=_number):
                self._number = _number(path)
                found += self._recover(path)
        except OSError as error:
            raise BadSetting(f"{SETTING}: {error.filename or self.path}: {error.strerror}") from error
        return found

    def append(self, record: bytes) -> Place:
        """Keep a record; nothing is left of it where this fails. Raises `OSError`."""
        if self.size + len(record) > self._limit:
            raise FolderFullError(f"the outbox holds {self.size} bytes, which is all it may")
        segment = self._current(len(record))
        place = Place(segment, segment.append(record), len(record))
        self.size += len(record)
        return place

    def read(self, place: Place) -> Decision | None:
        """What was appended; None: it is no longer whole. Raises `OSError`."""
        return place.segment.decision(place.offset, place.size)

    def acknowledge(self, place: Place) -> None:
        """NATS has it: a file of which it has all is deleted. Raises `OSError`."""
        segment = place.segment
        segment.acknowledge(place.offset)
        if not segment.waiting and not segment.is_open_to_more:
            self._delete(segment)

    def mark(self) -> None:
        """Write down what was acknowledged since; where this fails it is published once more. Raises `OSError`."""
        for segment in self._segments:
            self.size += segment.mark()

    def close(self) -> None:
        """Leave to the next process what NATS has not acknowledged, and nothing else."""
        for segment in list(self._segments):
            if segment.waiting:
                segment.close()
            else:
                self._delete(segment)
        os.close(self._lock)

    def _current(self, more: int) -> Segment:
        """The file to append to; a new one where the last is full."""
        last = self._segments[-1] if self._segments else None
        if last and last.is_open_to_more and last.size + more <= self._segment_bytes:
            return last
        segment = Segment.create(self.path / f"{self._number + 1:016d}{SUFFIX}")
        self._number += 1
        if last and last.is_open_to_more:
            last.is_open_to_more = False
            if not last.waiting:
                self._delete(last)
        self._segments.append(segment)
        self.size += segment.size
        return segment

    def _delete(self, segment: Segment) -> None:
        self._segments.remove(segment)
        self.size -= segment.size
        segment.delete()

    def _recover(self, path: Path) -> list[Place]:
        segment = Segment.open(path)
        try:
            decisions, damaged, torn = segment.recover()
        except NewerFormatError as error:
            segment.close()
            raise BadSetting(
                f"{SETTING}: {path} was written by a newer version of Moorgate (format {error}, known is {records.VERSION}):"
                " start that version until it has published it, or move the file away"
            ) from error
        for damage in damaged:
            self._tell(Damaged.CORRUPT, path, damage.begin, damage.end)
        if torn:
            self._tell(Damaged.TORN, path, torn.begin, torn.end)
        self._segments.append(segment)
        self.size += segment.size
        if not decisions:
            self._delete(segment)
        return [Place(segment, each.offset, each.size) for each in decisions]

    def _tell(self, kind: Damaged, path: Path, begin: int, end: int) -> None:
        self._metrics.outbox_damaged.labels(kind.value).inc()
        self._log.error("outbox_damaged", kind=kind.value, file=str(path), begin=begin, bytes=end - begin)


def _number(path: Path) -> int:
    digits = path.name.removesuffix(SUFFIX)
    return int(digits) if digits.isdecimal() else 0


def _locked(path: Path) -> int:
    """The folder's lock; the kernel gives it back when this process ends. Raises `BadSetting`, `OSError`."""
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BadSetting(
            f"{SETTING}: another process uses {path}: give each gateway a folder of its own"
        ) from None
    return descriptor
