"""What a simulator can be started with; every value has a default that suits tests.

The command line of `__main__` and the fixtures of tests/support/anchore.py both build one of these.
"""

from pathlib import Path

import msgspec

CATALOGUE = Path(__file__).with_name("catalogue.json")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fixed for the life of one simulator; what changes while it runs goes through the Simulator's methods."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port; the URL is printed, or `Simulator.url`."""
    apis: tuple[str, ...] = ("v1", "v2")
    """Which APIs are served: the engine has v1 only, the later server v2 only."""
    admin_password: str = "foobar"  # noqa: S105 - the password of Anchore's own quick start, for a server with nothing to guard
    catalogue: Path = CATALOGUE
    analysis_seconds: float = 0.0
    """From analyzing to analyzed, for images that name no time of their own. 0: analysed at the next request."""
    pickup_seconds: float = 0.0
    """How long an added image stays not_analyzed before an analyzer takes it (the real queue is polled)."""
    parallel_analyses: int = 0
    """How many analyses run at once; 0: any number. The recorded engine had 1."""
    honour_image_seconds: bool = True
    """Whether the catalogue's slow images are slow."""
    concurrency_traps: bool = False
    """Answer as the real server does to equal requests at once: some POSTs 500, some checks 404. Makes tests random."""
    check_curve: str = ""
    """How checks slow one another down: recorded, as the real server did on two cores, or nothing: not at all."""
    feeds_synced: bool = True
    """Whether vulnerability feeds are there from the start; a fresh engine has none."""
    image_watcher_seconds: float = 300.0
    """How often active tag_update subscriptions are looked at; 300 is the real server's minimum, 0 switches it off."""
    image_gc_seconds: float = 60.0
    """How long a deleted image lingers, still answering checks."""
    credential_cache_seconds: float = 2.0
    """How long a deleted user's credentials are still accepted."""
    webhooks: dict[str, str] = {}
    """URLs by type of notification, or `general` for all; `<userId>` and `<notification_type>` in them are filled in."""
    webhook_user: str = ""
    """Nothing: posts carry no credentials."""
    webhook_pass: str = ""
    webhook_ssl_verify: bool = False
    """The engine's own default."""
    notification_seconds: float = 10.0
    """How often notifications are posted; 10 is the real server's minimum, 0 leaves it to the door."""
    notification_retry_timeout: float = 30.0
    """After so many seconds a notification that nobody took is dropped."""
