"""Which rule an image is judged by. The process defaults, until a policy says otherwise."""

from enum import StrEnum

import msgspec

from shared.contracts import Mode


class OnPending(StrEnum):
    """What becomes of a Pod whose scan is still under way when the wait ends."""

    RETRY = "retry"
    ALLOW = "allow"
    DENY = "deny"


class OnError(StrEnum):
    """What becomes of a Pod for whose image no verdict can be had."""

    DENY = "deny"
    ALLOW = "allow"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How one image is judged."""

    mode: Mode
    on_pending: OnPending
    on_error: OnError
    tenant: str = "default"
    bundle_id: str | None = None
    """None: whatever bundle is active for the tenant."""
    policy: str | None = None
    """Name of the ImagePolicy; None: the process defaults."""
