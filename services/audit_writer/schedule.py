"""When a key is scanned again: at its own moment of each interval, by the verdict's age alone.

The moment follows from the key, so that scans spread evenly, and whoever leads next goes on in the same rhythm
without a burst. Whether a scan is due is asked of the verdict: one that was evaluated since the key's last moment
needs none, whoever asked for it. Pure: values in, values out.
"""

import hashlib
from datetime import UTC, datetime, timedelta

import msgspec

from services.audit_writer.judgements import Judgement
from services.audit_writer.sights import is_counted
from shared.contracts import ScanError, ScanPending, ScanState
from shared.verdicts import StoredVerdict

PENDING_GRACE = timedelta(seconds=30)
"""How long after its next look a pending state still counts: the longest delay between two looks."""

_START = datetime(1970, 1, 1, tzinfo=UTC)
_PHASES = 1 << 64


class Look(msgspec.Struct, frozen=True):
    """What is to be done about a key."""

    is_wanted: bool
    """A scan should be asked for now."""
    again_at: datetime | None = None
    """When to look again if nothing is done now."""


def last_moment(key: str, interval: float, now: datetime) -> datetime:
    """The key's latest moment, not after `now`; the next one is an interval later."""
    phase = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / _PHASES * interval
    rounds = ((now - _START).total_seconds() - phase) // interval
    return _START + timedelta(seconds=phase + rounds * interval)


def look(
    judgement: Judgement,
    stored: StoredVerdict | None,
    state: ScanState | None,
    *,
    is_running: bool,
    interval: float,
    now: datetime,
) -> Look:
    """Whether to ask: at once where no verdict counts, and of what runs once an interval; never while a scan state lives."""
    if until := _alive_until(state, now):
        return Look(is_wanted=False, again_at=until)
    if stored is None or now >= stored.verdict.known_until or not is_counted(stored, judgement):
        return Look(is_wanted=True)
    moment = last_moment(judgement.key, interval, now)
    if is_running and stored.verdict.evaluated_at < moment:
        return Look(is_wanted=True)
    return Look(is_wanted=False, again_at=moment + timedelta(seconds=interval))


def _alive_until(state: ScanState | None, now: datetime) -> datetime | None:
    until = None
    if isinstance(state, ScanError):
        until = state.until
    elif isinstance(state, ScanPending):
        until = state.next_look + PENDING_GRACE
    return until if until and until > now else None
