"""The gateways' own issuer: makes and renews their authority and their leaf, and tells the API server whom to trust.

One leader at a time does it, step by step, and always in this order:

1. a new authority is stored in the Secret, before anybody is told of it;
2. every webhook configuration trusts it, beside the ones before;
3. some time passes in which all API servers learn of that;
4. only then a leaf of it is stored, which all gateways begin to serve;
5. the old authority is taken out when nothing it has signed can be valid any more.

Each step is found out anew from what is stored, so that a leader may die between any two lines and the next
goes on from there; at worst it waits again. Two leaders for a moment can't undo each other: whoever writes on
an old reading gets a conflict and reads again. While the API server is away nothing is renewed and the
gateways go on with what they have: a third of each life is left for that.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509

from services.gateway.metrics import GatewayMetrics
from services.gateway.registration import Registration, Registrations
from services.gateway.tls_secret import TlsSecret
from shared import logs
from shared.authority import Lifetimes, Material, with_authority, with_leaf
from shared.cluster import Cluster
from shared.errors import Conflict, MoorgateError
from shared.leases import LeaseTimes

SERVICE = "moorgate-gateway"
"""The Service of the gateways, for which a leaf is made even before a webhook configuration names one."""


class IssuerTimes(msgspec.Struct, frozen=True):
    """How long everything takes; shorter in tests."""

    lives: Lifetimes = Lifetimes()
    propagation: timedelta = timedelta(seconds=60)
    """From the last write to a webhook configuration until every API server surely calls by it."""
    look: float = 5.0
    """Seconds between two looks at the Secret and the configurations."""
    lease: LeaseTimes = LeaseTimes()


class Issuer:
    """What the leader does."""

    def __init__(self, cluster: Cluster, namespace: str, metrics: GatewayMetrics, times: IssuerTimes) -> None:
        self._secret = TlsSecret(cluster, namespace)
        self._registrations = Registrations(cluster, namespace, times.lives)
        self._hosts = {f"{SERVICE}.{namespace}.svc", "localhost", "127.0.0.1"}
        self._metrics = metrics
        self._times = times
        self._published: x509.Certificate | None = None
        self._published_at = 0.0
        self._failure = ""
        self._complaints: tuple[str, ...] = ()
        self._log = logs.logger("issuer")

    async def run(self) -> None:
        """While leading: step after step."""
        self._published = None  # what another has changed meanwhile is not known: wait anew
        try:
            while True:
                await self._try_step()
                await asyncio.sleep(self._times.look)
        finally:
            self._metrics.degraded.labels("issuer").set(0)

    async def _try_step(self) -> None:
        try:
            await self.step(datetime.now(UTC))
        except Conflict as error:
            self._log.info("read_again", reason=str(error))
            return
        except MoorgateError as error:
            self._metrics.degraded.labels("issuer").set(1)
            if self._failure != str(error):
                self._log.warning("certificates_not_looked_after", error=str(error))
            self._failure = str(error)
            return
        self._failure = ""
        self._metrics.degraded.labels("issuer").set(0)

    async def step(self, now: datetime) -> None:
        """Whatever is due and may be done now. Raises `Conflict`, `Unavailable`, `Refused`."""
        registration = await self._registrations.read()
        material, version = await self._with_authority(registration, now)
        changed = await self._registrations.publish(registration, material.trusted, now)
        if changed:
            self._log.info(
                "trusted_authorities_published", configurations=changed, authorities=len(material.trusted)
            )
        if not self._has_settled(material, has_changed=bool(changed)):
            return
        final = with_leaf(material, self._hosts | registration.hosts, now, self._times.lives)
        if final is not material:
            await self._secret.write(final, version)
            self._log.info("leaf_made", **_described(final.leaf_certificate))

    async def _with_authority(self, registration: Registration, now: datetime) -> tuple[Material, str]:
        """The Secret's material, with an authority that is not due; and the version that it is stored in."""
        held = await self._secret.held()
        complaints = held.complaints if held.version else ("there is none",)
        if complaints and complaints != self._complaints:
            self._log.warning("secret_is_made_anew", because="; ".join(complaints))
        self._complaints = complaints
        material = with_authority(held.material, registration.known, now, self._times.lives)
        if material == held.material and held.version:
            return material, held.version
        version = await self._secret.write(material, held.version)
        if material.authority and material.authority != held.material.authority:
            self._log.info("authority_made", **_described(material.authority.certificate))
        return material, version

    def _has_settled(self, material: Material, *, has_changed: bool) -> bool:
        """Every API server surely trusts the newest authority, or there is no other whose leaf could be missed."""
        newest, now = material.trusted[0], asyncio.get_running_loop().time()
        if material.authority:
            newest = material.authority.certificate
        if has_changed or newest != self._published:
            self._published, self._published_at = newest, now
        is_alone = len(material.trusted) == 1
        return is_alone or now >= self._published_at + self._times.propagation.total_seconds()


def _described(certificate: x509.Certificate | None) -> dict[str, str]:
    if certificate is None:
        return {}
    return {"serial": f"{certificate.serial_number:x}", "until": str(certificate.not_valid_after_utc)}
