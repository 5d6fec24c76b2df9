"""What the API server tells of Moorgate: whether gateways are registered and trusted, who leads, which Audits there are.

Needs `list` of validatingwebhookconfigurations and audits, and `get` of the Leases; what one may not see says so.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec

from services.cli.output import age
from services.cli.status_parts import Health, Look, Part
from services.cli.webhooks_cluster import PART_OF, PATH
from services.cli.webhooks_trust import bundle_of
from shared import crds
from shared.cluster import Cluster, ListMeta, pages
from shared.crds import AuditState
from shared.leases import Lease
from shared.objects import ObjectMeta

LEASES = ("moorgate-gateway", "moorgate-audit-writer")
"""Who leads among the gateways and the audit-writers."""

ENDPOINT = "/imagecheck"
"""What a gateway is posted to: a configuration that a person made by hand is found by it."""

SOON = timedelta(days=7)
"""An authority that expires so soon should have been renewed."""

_TROUBLED = (AuditState.DEGRADED, AuditState.UNVERIFIED)


class _Service(msgspec.Struct, frozen=True):
    path: str = ""


class _Client(msgspec.Struct, frozen=True, rename="camel"):
    url: str = ""
    service: _Service = _Service()
    ca_bundle: bytes = b""


class _Webhook(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    client_config: _Client = _Client()
    failure_policy: str = "Fail"

    @property
    def is_ours(self) -> bool:
        """Whether gateways serve it."""
        return ENDPOINT in self.client_config.url + self.client_config.service.path


class _Configuration(msgspec.Struct, frozen=True):
    metadata: ObjectMeta
    webhooks: list[_Webhook] = []

    @property
    def is_ours(self) -> bool:
        """By its label, or by where it points."""
        name, _, value = PART_OF.partition("=")
        return self.metadata.labels.get(name) == value or any(each.is_ours for each in self.webhooks)


class _Configurations(msgspec.Struct, frozen=True):
    items: list[_Configuration]


class _Labelled(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


class _Page(msgspec.Struct, frozen=True):
    items: list[_Labelled]
    metadata: ListMeta = ListMeta()


_LEASE = msgspec.json.Decoder(Lease)


def looks(cluster: Cluster, namespace: str) -> list[tuple[str, Look]]:
    """All of them, by name."""
    status = _ClusterStatus(cluster, namespace)
    return [("webhooks", status.webhooks), ("leases", status.leases), ("audits", status.audits)]


class _ClusterStatus:
    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    async def webhooks(self) -> list[Part]:
        """Whether the API server asks gateways, and can trust them."""
        found = msgspec.json.decode(await self._cluster.request("GET", PATH), type=_Configurations).items
        ours = [each for each in found if each.is_ours]
        now = datetime.now(UTC)
        parts = [_trust(each, webhook, now) for each in ours for webhook in each.webhooks]
        return parts or [Part("webhooks", Health.BAD, "nothing is registered: Pods are admitted unseen")]

    async def leases(self) -> list[Part]:
        """Who leads."""
        return [await self._lease(name) for name in LEASES]

    async def audits(self) -> list[Part]:
        """How many there are in each state."""
        counted: Counter[str] = Counter()
        async for page in pages(self._cluster, crds.audits_path(), msgspec.json.Decoder(_Page).decode):
            counted.update(each.metadata.labels.get(crds.STATE_LABEL, "unlabelled") for each in page.items)
        troubled = sum(counted[state] for state in _TROUBLED)
        detail = ", ".join(f"{count} {state}" for state, count in sorted(counted.items())) or "none"
        return [Part("audits", Health.ATTENTION if troubled else Health.OK, detail)]

    async def _lease(self, name: str) -> Part:
        title = f"lease {name}"
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases/{name}"
        lease = await self._cluster.get(path, _LEASE)
        if lease is None:
            return Part(title, Health.BAD, f"not there in namespace {self._namespace}: nobody has ever led")
        holder, renewed = lease.spec.holder_identity, _time(lease.spec.renew_time)
        if not holder or renewed is None:
            return Part(title, Health.ATTENTION, "nobody leads right now")
        now = datetime.now(UTC)
        detail = f"{holder}, renewed {age(renewed, now)} ago"
        if now - renewed > 2 * timedelta(seconds=lease.spec.lease_duration_seconds or 15):
            return Part(title, Health.BAD, f"nobody leads: last {detail}")
        return Part(title, Health.OK, detail)


def _trust(configuration: _Configuration, webhook: _Webhook, now: datetime) -> Part:
    name = f"webhook {configuration.metadata.name}"
    until = max(
        (each.not_valid_after_utc for each in bundle_of(webhook.client_config.ca_bundle, now)), default=None
    )
    if until is None:
        return Part(
            name, Health.BAD, f"{webhook.failure_policy}; caBundle has no authority that is still valid"
        )
    detail = f"{webhook.failure_policy}; trusts an authority until {until:%Y-%m-%d}"
    return Part(name, Health.ATTENTION if until - now < SOON else Health.OK, detail)


def _time(text: str | None) -> datetime | None:
    """Of a Lease; None where it is none."""
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None
