"""What could not be worked on, kept for people."""

import msgspec

from shared.contracts.scans import Utc
from shared.messages import Decoder, Message


class DeadLetter(Message, frozen=True, kw_only=True, tag="moorgate.v1.dead-letter"):
    """A message that no repetition would help, kept with the reason."""

    what: str
    """What kind of work it was: `scan`, `decision`, `notification`."""
    reason: str
    """Why it was given up."""
    subject: str
    """Where it was published."""
    stream: str
    """Where it was kept."""
    sequence: int
    """Its number in that stream."""
    deliveries: int
    """How often it was delivered."""
    died_at: Utc
    """When it was given up."""
    payload: bytes
    """Base64 in JSON; cut to what fits a message."""


DEAD_LETTER: "Decoder[DeadLetter]" = msgspec.json.Decoder(DeadLetter)
