"""The way of `moorgate webhooks apply`: nothing that fails closed before a gateway has answered as it will be called.

1. the authorities that the gateways' certificate comes from, waited for;
2. configurations that fail open: they hold nobody up, and their host tells the gateways' own issuer which name to certify;
3. a gateway answers under that name, by those authorities, at the secret path, waited for;
4. configurations that fail closed.

The chart's ClusterRole becomes the owner of all of them, so that an uninstall removes them with no gateway alive. Each
step looks first, and a run that finds all as it should be writes nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from cryptography import x509

from services.cli import webhooks_cluster, webhooks_gateway
from services.cli.bootstrap.plan import Failed, Plan, Verb
from services.cli.webhooks_cluster import LiveConfiguration
from services.cli.webhooks_file import WantedConfiguration
from services.cli.webhooks_trust import bundle_of, encoded, with_added
from shared.cluster import Cluster
from shared.errors import Conflict, Unavailable

RETRY = 1.0
"""Seconds between two looks for what is missing."""

ATTEMPTS = 20
"""How often somebody else may write a configuration while we do: a gateway's issuer, cert-manager."""

T = TypeVar("T")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be registered."""

    configurations: tuple[WantedConfiguration, ...]
    namespace: str
    """Where the Secrets are."""
    ca_secret: str
    ca_key: str
    path_secret: str | None
    owner: str | None
    """The ClusterRole."""
    wait_for: float
    """Seconds, for everything together."""


class Registrar:
    """One run."""

    def __init__(self, plan: Plan, cluster: Cluster, order: Order, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._cluster = cluster
        self._order = order
        self._say = say
        self._deadline = time.monotonic() + order.wait_for
        self._trusted: tuple[x509.Certificate, ...] = ()
        self._owners: list[dict[str, str]] = []

    async def register(self) -> None:
        """All steps. Raises `Failed`, `Unavailable`, `Refused`."""
        self._trusted = await self._awaited(self._authorities)
        self._owners = await self._read_owners()
        path = await self._path()
        wanted = [each.with_path(path) if path else each for each in self._order.configurations]
        for each in wanted:
            if not each.fails_closed:
                await self._apply(each)
        closed = [each for each in wanted if each.fails_closed]
        for target in sorted({target for each in closed for target in each.targets}, key=str):
            if self._plan.is_dry:
                continue  # nothing was registered that would make a gateway answer to this name
            await self._awaited(lambda target=target: webhooks_gateway.ask(target, self._trusted))  # type: ignore[misc]
        for each in closed:
            await self._apply(each)

    async def _authorities(self) -> tuple[x509.Certificate, ...]:
        order = self._order
        text = await webhooks_cluster.secret_value(
            self._cluster, order.namespace, order.ca_secret, order.ca_key
        )
        found = bundle_of(text, datetime.now(UTC))
        if not found:
            where = f"{order.namespace}/{order.ca_secret}"
            raise Unavailable("the certificate", f"no authority in {order.ca_key} of the Secret {where} yet")
        return found

    async def _path(self) -> str:
        order = self._order
        if order.path_secret is None:
            return ""
        text = await webhooks_cluster.secret_value(
            self._cluster, order.namespace, order.path_secret, "secret"
        )
        if not text:
            raise Failed(
                f"the Secret {order.namespace}/{order.path_secret} has no secret: run moorgate secrets apply"
            )
        return text.decode("ascii", errors="replace").strip()

    async def _read_owners(self) -> list[dict[str, str]]:
        if self._order.owner is None:
            return []
        found = await webhooks_cluster.owner(self._cluster, self._order.owner)
        if found is None:
            raise Failed(
                f"there is no ClusterRole {self._order.owner}, which the configurations shall belong to"
            )
        return [found]

    async def _apply(self, wanted: WantedConfiguration) -> None:
        what = f"ValidatingWebhookConfiguration {wanted.name}"
        for _ in range(ATTEMPTS):
            live = await webhooks_cluster.read(self._cluster, wanted.name)
            version = live.metadata.resource_version if live else ""
            content = wanted.with_trust(self._bundles(wanted, live), self._owners, version)
            try:
                applied = await webhooks_cluster.apply(
                    self._cluster, wanted.name, content, is_dry=self._plan.is_dry
                )
            except Conflict:  # somebody has written it since: read again what it trusts now
                continue
            self._plan.note(_verb(live, applied, is_dry=self._plan.is_dry), what)
            return
        raise Failed(f"{what}: somebody else writes it all the time")

    def _bundles(self, wanted: WantedConfiguration, live: LiveConfiguration | None) -> dict[str, str]:
        """For each webhook whom to trust: those it trusts already, and ours. Never empty: `_trusted` isn't."""
        before, now = live.bundles if live else {}, datetime.now(UTC)
        return {
            name: encoded(with_added(before.get(name, b""), self._trusted, now))
            for name in sorted(wanted.webhook_names)
        }

    async def _awaited(self, look: Callable[[], Awaitable[T]]) -> T:
        """The first look that is not `Unavailable`. Raises the last one's error when the time is up."""
        said = ""
        while True:
            try:
                return await look()
            except Unavailable as error:
                if self._plan.is_dry or time.monotonic() + RETRY > self._deadline:
                    raise
                if str(error) != said:
                    self._say(f"waiting: {error}")
                said = str(error)
            await asyncio.sleep(RETRY)


def _verb(live: LiveConfiguration | None, applied: LiveConfiguration, *, is_dry: bool) -> Verb:
    if live is None:
        return Verb.CREATED
    if is_dry:  # a dry run answers with the version that is stored
        is_same = (
            live.webhooks == applied.webhooks and live.metadata.generation == applied.metadata.generation
        )
    else:
        is_same = live.metadata.resource_version == applied.metadata.resource_version
    return Verb.UNCHANGED if is_same else Verb.UPDATED
