"""Decisions between the answer and NATS (docs/outbox.md).

`outbox` is the way of a decision: keep, answer, publish. `entries` is one of them as memory has it; `folder` the lock,
the bound and the files in their order, `segment` one file, `records` its format; `publisher` has many under way at once
until each is acknowledged; `settings` is what can be told.
"""

from services.gateway.outbox.entries import Outgoing
from services.gateway.outbox.outbox import Outbox, open_outbox
from services.gateway.outbox.settings import Durability, OnUnrecorded, OutboxSettings

__all__ = ["Durability", "OnUnrecorded", "Outbox", "OutboxSettings", "Outgoing", "open_outbox"]
