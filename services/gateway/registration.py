"""The webhook configurations through which the API server finds the gateways, as their issuer needs them.

Those that bear the label `security.banzaicloud.com/inject-ca: <namespace of the gateways>` get the bundle
of trusted authorities; nothing but `webhooks[*].clientConfig.caBundle` is ever written. They also say by
which hosts the gateways are called.

A write adds to what is there and takes out only what has retired, on exactly the version that was read: a
leader that has slept and wakes with an old bundle takes nobody's trust away.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec
from cryptography import x509

from shared import logs
from shared.authority import Lifetimes, pem, read_bundle, trusted
from shared.cluster import Cluster
from shared.crds import GROUP
from shared.errors import Refused
from shared.objects import ObjectMeta

PATH = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
LABEL = f"{GROUP}/inject-ca"
MANAGER = "moorgate-gateway-issuer"

_STRATEGIC = "application/strategic-merge-patch+json"
"""Merges `webhooks` by name: with a plain merge patch the whole list would have to be written."""

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)


class _Service(msgspec.Struct, frozen=True):
    name: str
    namespace: str


class _Client(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    ca_bundle: bytes = b""
    service: _Service | None = None
    url: str | None = None


class _Rule(msgspec.Struct, frozen=True, rename="camel"):
    api_groups: list[str] = []
    resources: list[str] = []
    operations: list[str] = []


class _Webhook(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    name: str
    client_config: _Client
    rules: list[_Rule] = []

    @property
    def sees_new_pods(self) -> bool:
        """Whether its rules cover the creation of Pods."""
        wanted = ({"", "*"}, {"pods", "*", "*/*"}, {"CREATE", "*"})
        return any(
            all(map(set.intersection, map(set, (each.api_groups, each.resources, each.operations)), wanted))
            for each in self.rules
        )


class _Configuration(msgspec.Struct, frozen=True):
    metadata: ObjectMeta
    webhooks: list[_Webhook] = []


class _List(msgspec.Struct, frozen=True):
    items: list[_Configuration]


_LIST = msgspec.json.Decoder(_List)


class Registration(msgspec.Struct, frozen=True):
    """The configurations of one installation as they were read."""

    configurations: tuple[_Configuration, ...]

    @property
    def known(self) -> set[x509.Certificate]:
        """The authorities that the API server trusts by any of them."""
        return {each for one in self.configurations for each in _authorities(one)}

    @property
    def hosts(self) -> set[str]:
        """By which names and addresses the API server calls."""
        clients = [each.client_config for one in self.configurations for each in one.webhooks]
        return {host for client in clients if (host := _host(client))}


def registration_of(answer: bytes) -> Registration:
    """What the API server lists."""
    return Registration(tuple(_LIST.decode(answer).items))


class Registrations:
    """The webhook configurations with the label."""

    def __init__(self, cluster: Cluster, namespace: str, lives: Lifetimes) -> None:
        self._cluster = cluster
        self._query = {"labelSelector": f"{LABEL}={namespace}"}
        self._lives = lives
        self._complaints: set[str] = set()
        self._log = logs.logger("registration")

    async def read(self) -> Registration:
        """All there are. Raises `Unavailable`, `Refused`."""
        return registration_of(await self._cluster.request("GET", PATH, query=self._query))

    async def publish(
        self, registration: Registration, bundle: tuple[x509.Certificate, ...], now: datetime
    ) -> list[str]:
        """Make all of them trust the bundle; gives the names of those changed. Raises `Conflict`, `Unavailable`, `Refused`.

        One that may not be written, and trusts none of ours, is somebody else's work under our label: it is named
        in the log and holds up nobody's certificate. One that trusts an older authority of ours calls us, and must
        learn of the newest before its leaf is served.
        """
        changed, refused = [], None
        for each in registration.configurations:
            wanted = pem(trusted([*_authorities(each), *bundle], bundle, now, self._lives))
            if all(webhook.client_config.ca_bundle == wanted for webhook in each.webhooks):
                continue
            try:
                await self._patch(each, wanted)
            except Refused as error:
                refused = error if _needs(each, bundle) else refused
                self._complain(each.metadata.name, error)
            else:
                changed.append(each.metadata.name)
        if refused:
            raise refused
        return changed

    def _complain(self, name: str, error: Refused) -> None:
        if name not in self._complaints:
            self._log.warning("not_trusted_by", configuration=name, error=str(error))
        self._complaints.add(name)

    async def _patch(self, configuration: _Configuration, bundle: bytes) -> None:
        change = _Configuration(
            ObjectMeta(resource_version=configuration.metadata.resource_version),
            [_Webhook(each.name, _Client(ca_bundle=bundle)) for each in configuration.webhooks],
        )
        await self._cluster.request(
            "PATCH",
            f"{PATH}/{configuration.metadata.name}",
            query={"fieldManager": MANAGER},
            body=msgspec.json.encode(change),
            content_type=_STRATEGIC,
        )


def _authorities(configuration: _Configuration) -> Iterable[x509.Certificate]:
    for each in configuration.webhooks:
        yield from read_bundle(each.client_config.ca_bundle)


def _needs(configuration: _Configuration, bundle: tuple[x509.Certificate, ...]) -> bool:
    """Whether calls by it would fail with a leaf of an authority that it lacks, and do not fail now."""
    has = set(_authorities(configuration))
    return bool(has & set(bundle)) and not set(bundle) <= has


def _host(client: _Client) -> str | None:
    """As a certificate names it; None for what no certificate could name."""
    if client.service:
        return f"{client.service.name}.{client.service.namespace}.svc"
    host = (urlsplit(client.url).hostname if client.url else None) or ""
    try:
        return str(ip_address(host))
    except ValueError:
        return host if _HOST.fullmatch(host) else None
