"""What can be told the outbox: where it is, how large, and what an answer waits for."""

from enum import Enum
from pathlib import Path

import msgspec

from shared.settings import Environment

MIB = 1024 * 1024


class Durability(Enum):
    """When a decision counts as recorded."""

    OUTBOX = "outbox"
    """Once the outbox has it."""
    ACK = "ack"
    """Once NATS has it: the answer waits for that, as long as it may."""


class OnUnrecorded(Enum):
    """What becomes of an answer whose decision neither the outbox nor NATS takes."""

    ANSWER = "answer"
    DENY = "deny"


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Typed."""

    path: Path | None = None
    """None: in memory."""
    limit: int = 128 * MIB
    """Bytes, of the files or of the memory."""
    durability: Durability = Durability.OUTBOX
    on_unrecorded: OnUnrecorded = OnUnrecorded.ANSWER

    @classmethod
    def load(cls, environment: Environment) -> "OutboxSettings":
        """From the environment. Raises `BadSetting`."""
        path = environment.optional("MOORGATE_OUTBOX_DIR")
        return cls(
            path=Path(path) if path else None,
            limit=environment.size("MOORGATE_OUTBOX_SIZE", "128Mi", minimum=MIB, maximum=1024 * MIB),
            durability=environment.choice("MOORGATE_DECISION_DURABILITY", Durability, Durability.OUTBOX),
            on_unrecorded=environment.choice("MOORGATE_ON_UNRECORDED", OnUnrecorded, OnUnrecorded.ANSWER),
        )
