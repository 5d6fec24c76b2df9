"""What could not be worked on, kept for people."""

import msgspec

from shared.contracts.scans import Utc
from shared.messages import Decoder, Message


class DeadLetter(Message, frozen=True, kw_only=True, tag="moorgate.v1.dead-letter"):
    """A message that no repetition would help, kept with the reason."""

    what: str
    reason: str
    subject: str
    stream: str
    sequence: int
    deliveries: int
    died_at: Utc
    payload: bytes
    """Base64 in JSON; cut to what fits a message."""


DEAD_LETTER: "Decoder[DeadLetter]" = msgspec.json.Decoder(DeadLetter)
