"""Where notifications go: the webhooks of the engine's configuration, and the webhook endpoints that API v2 is told of.

Nothing is sent here; `webhooks` takes the deliveries. A notification is written only where a subscription is active and somebody
is to be told, so that a simulator without webhooks keeps nothing. Guessed for API v2: an endpoint is enabled from the start, one
configuration's failure doesn't concern the others, and a configuration of admin with a `global` selector hears of all accounts.
"""

import fnmatch
import uuid
from dataclasses import dataclass, field

import msgspec

from deploy.dev.anchore.notifications import KINDS, Notification
from deploy.dev.anchore.settings import Settings
from deploy.dev.anchore.wire import JsonObject, whole_seconds

WEBHOOK = "webhook"
"""The one kind of endpoint that is simulated."""


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """One URL to post to."""

    url: str
    user: str = ""
    password: str = ""
    is_verified: bool = False
    """Whether its certificate must be good."""


@dataclass(kw_only=True)
class Configuration:
    """One webhook endpoint that an account has set up in API v2."""

    account: str
    given: JsonObject
    created: float
    updated: float
    configuration_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    selectors: dict[str, JsonObject] = field(default_factory=dict)

    @property
    def hook(self) -> Hook:
        """Where to post."""
        return Hook(
            url=self.given["url"],
            user=self.given.get("username", ""),
            password=self.given.get("password", ""),
            is_verified=self.given.get("verify_ssl", False),
        )

    def selects(self, notification: Notification) -> bool:
        """Whether one of its selectors is for this."""
        return any(self._fits(selector, notification) for selector in self.selectors.values())

    def _fits(self, selector: JsonObject, notification: Notification) -> bool:
        event = selector["event"]
        is_heard = notification.account == self.account or selector["scope"] == "global"
        return (
            is_heard
            and event["level"] in {"*", "info"}
            and fnmatch.fnmatchcase("image_tag", event["resource_type"])
            and fnmatch.fnmatchcase(KINDS[notification.kind], event["type"])
        )

    def show(self) -> JsonObject:
        """Without the password."""
        times = {"created_at": whole_seconds(self.created), "last_updated": whole_seconds(self.updated)}
        given = {name: value for name, value in self.given.items() if name != "password"}
        return {**given, **times, "uuid": self.configuration_id}


@dataclass(eq=False)
class Delivery:
    """One notification on its way; done when all hooks took it one after the other, tried again from the first otherwise."""

    notification: Notification
    hooks: tuple[Hook, ...]
    is_v2: bool


class Outbox:
    """Deliveries to be made, and who wants any."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.deliveries: list[Delivery] = []
        self.configurations: dict[str, Configuration] = {}
        self.is_enabled = True
        """Whether webhook endpoints of API v2 are used."""
        self.switched = 0.0

    @property
    def is_read(self) -> bool:
        """Whether anybody could be told anything."""
        return bool(self._settings.webhooks or self.configurations)

    def put(self, notification: Notification) -> int:
        """How many deliveries it makes. The engine's own goes to the type's webhook first, then to the general one."""
        hooks = tuple(self._hooks(notification))
        made = [Delivery(notification, hooks, is_v2=False)] if hooks else []
        made += [
            Delivery(notification, (configuration.hook,), is_v2=True)
            for configuration in self.configurations.values()
            if self.is_enabled and configuration.selects(notification)
        ]
        self.deliveries += made
        return len(made)

    def _hooks(self, notification: Notification) -> list[Hook]:
        settings = self._settings
        urls = [
            settings.webhooks[name] for name in (notification.kind, "general") if name in settings.webhooks
        ]
        return [
            Hook(
                url=url.replace("<userId>", notification.account).replace(
                    "<notification_type>", notification.kind
                ),
                user=settings.webhook_user,
                password=settings.webhook_pass,
                is_verified=settings.webhook_ssl_verify,
            )
            for url in urls
        ]
