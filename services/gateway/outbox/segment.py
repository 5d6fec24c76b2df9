"""One file of the outbox: appended to, read back at the next start, deleted once NATS has all of it.

What is written is in the kernel's page cache: it outlives this process, however it ends, and not the machine's power.
Acknowledgements are written into the same file, late and in heaps: one that is missing costs a repetition, which
the stream tells by its id.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from services.gateway.outbox import records
from services.gateway.outbox.records import Acknowledged, Damage, Decision

SUFFIX = ".decisions"


class Segment:
    """An open file. Methods raise `OSError`."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        """Bytes that are known to be whole records."""
        self.waiting = 0
        """Decisions that NATS has not acknowledged."""
        self.is_open_to_more = True
        self._descriptor = descriptor
        self._acknowledged: list[int] = []

    @classmethod
    def create(cls, path: Path) -> "Segment":
        """A new one, empty; on failure none is left."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        segment = cls(path, descriptor, 0)
        try:
            segment._write(records.header())
        except OSError:
            segment.delete()
            raise
        return segment

    @classmethod
    def open(cls, path: Path) -> "Segment":
        """One that another process has left; nothing more is appended to it but acknowledgements."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        segment = cls(path, descriptor, os.fstat(descriptor).st_size)
        segment.is_open_to_more = False
        return segment

    def recover(self) -> tuple[list[Decision], list[Damage], Damage | None]:
        """What NATS has not acknowledged, what is damaged in the middle, and the torn tail, which is cut off.

        Raises `NewerFormatError`.
        """
        decisions: dict[int, Decision] = {}
        damaged: list[Damage] = []
        for found in records.read(self._read(self.size, 0)):
            if isinstance(found, Decision):
                decisions[found.offset] = found
            elif isinstance(found, Acknowledged):
                for offset in found.offsets:
                    decisions.pop(offset, None)
            else:
                damaged.append(found)
        torn = damaged.pop() if damaged and damaged[-1].end == self.size else None
        if torn:
            self._truncate(torn.begin)
        self.waiting = len(decisions)
        return list(decisions.values()), damaged, torn

    def append(self, record: bytes) -> int:
        """Where the decision stands now. Nothing of it is left where this fails."""
        offset = self.size
        self._write(record)
        self.waiting += 1
        return offset

    def decision(self, offset: int, size: int) -> Decision | None:
        """The decision that stands there; None: it is no longer whole."""
        return next((each for each in self._records(offset, size) if isinstance(each, Decision)), None)

    def acknowledge(self, offset: int) -> None:
        """NATS has it; `mark` writes that down."""
        self.waiting -= 1
        self._acknowledged.append(offset)

    def mark(self) -> int:
        """Write down what was acknowledged; gives the bytes written."""
        if not self._acknowledged:
            return 0
        record = records.acknowledged(self._acknowledged)
        self._acknowledged.clear()
        self._write(record)
        return len(record)

    def delete(self) -> None:
        """Nobody needs it any more."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave it for the next process."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _records(self, offset: int, size: int) -> Iterator[Decision | Acknowledged | Damage]:
        return records.read(self._read(size, offset))

    def _read(self, size: int, offset: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def _write(self, record: bytes) -> None:
        """All of it or nothing."""
        try:
            written = os.pwrite(self._descriptor, record, self.size)
            if written < len(record):  # a disk that fills up takes a part first
                written += os.pwrite(self._descriptor, record[written:], self.size + written)
        except OSError:
            self._truncate(self.size)
            raise
        self.size += written

    def _truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self.size = size
