"""One decision in the outbox, as memory has it.

Its text is kept only where there is room, or where no file has it: it is read back when its turn comes.
"""

import asyncio
from typing import Annotated

import msgspec

from services.gateway.outbox.folder import Place
from services.gateway.outbox.records import Decision
from shared.contracts import AdmissionDecided
from shared.subjects import decision_subject


class Outgoing(msgspec.Struct, frozen=True):
    """A message ready to be sent."""

    id: str
    subject: str
    trace: str
    payload: bytes
    type_name: str = AdmissionDecided.type_name()


class Entry:
    """A decision that NATS has not acknowledged."""

    __slots__ = ("answer", "is_given_up", "is_kept", "outgoing", "place")

    def __init__(self, place: Place | None, outgoing: Outgoing | None) -> None:
        self.place = place
        """Where it stands in the file; None: in memory alone."""
        self.is_kept = place is not None
        """It does not hang on the answer that waits for it."""
        self.outgoing = outgoing
        """None: it has to be read back."""
        self.answer: asyncio.Future[None] | None = None
        """Done once it is acknowledged; None: nobody waits."""
        self.is_given_up = False
        """Nobody wants it published any more."""


class _Head(msgspec.Struct, frozen=True, tag=AdmissionDecided.type_name(), tag_field="type"):
    id: str
    namespace: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][-a-z0-9]*\Z")]
    """It becomes a token of the subject."""


_HEAD = msgspec.json.Decoder(_Head)


def outgoing(found: Decision) -> Outgoing:
    """A decision read back. Raises `msgspec.MsgspecError`."""
    try:
        head = _HEAD.decode(found.payload)
    except (UnicodeDecodeError, RecursionError) as error:  # of text that is none: msgspec lets these through
        raise msgspec.DecodeError(str(error)) from error
    return Outgoing(head.id, decision_subject(head.namespace), found.trace, found.payload)
