"""The gateways' own issuer: the order of its steps, what a death between any two of them costs, and broken Secrets.

The API server is a stand-in with its rules for versions, so that the tests can stop the world after any
single write. In every one of them the same is promised: what a gateway serves is trusted by every webhook
configuration, as it is now and as it was a propagation time ago.
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store
from prometheus_client import CollectorRegistry

from services.gateway.issuer import Issuer, IssuerTimes
from services.gateway.metrics import GatewayMetrics
from services.gateway.registration import LABEL, PATH
from services.gateway.tls_secret import TlsSecret
from shared.authority import (
    Lifetimes,
    Material,
    make_authority,
    pem,
    read_authority,
    trusted,
    with_authority,
    with_leaf,
)
from shared.certificates import BadCertificate, Certificates, KeyPair
from shared.cluster import Cluster
from shared.errors import Conflict, MoorgateError, Refused, Unavailable
from tests.support.virtual_time import virtually

TIMES = IssuerTimes()
LIVES = TIMES.lives
PROPAGATION = TIMES.propagation.total_seconds()
SECRETS = "/api/v1/namespaces/moorgate/secrets"
SECRET = f"{SECRETS}/moorgate-gateway-tls"
START = datetime(2026, 1, 1, tzinfo=UTC)


class Died(BaseException):
    """kill -9, between two lines."""


class World(Cluster):
    """One Secret and some webhook configurations."""

    def __init__(self, *configurations: str) -> None:
        self.secret: dict[str, Any] | None = None
        self.configurations = {name: configuration(name) for name in configurations}
        self.version = 100
        self.writes: list[str] = []
        self.dies_after: int | None = None
        self.dies_before_write = False
        self.refusal: MoorgateError | None = None
        self.before_write: Any = None
        self.foreign: set[str] = set()
        """Configurations that we have no right to write."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        **_: Any,
    ) -> bytes:
        if self.refusal:
            raise self.refusal
        if method == "GET":
            return json.dumps(self._read(path, query or {})).encode()
        if self.before_write:
            hook, self.before_write = self.before_write, None
            await hook()
        if self.dies_after == len(self.writes) and self.dies_before_write:
            raise Died
        answer = self._write(method, path, json.loads(body or b"{}"))
        self.writes.append(path.rpartition("/")[2])
        if self.dies_after == len(self.writes) and not self.dies_before_write:
            raise Died
        return json.dumps(answer).encode()

    def _read(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        if path == PATH:
            assert query == {"labelSelector": f"{LABEL}=moorgate"}
            return {"items": list(self.configurations.values())}
        assert path == SECRET
        if self.secret is None:
            raise Refused(404, "not found")
        return self.secret

    def _write(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        if method == "POST":
            assert path == SECRETS
            if self.secret is not None:
                raise Conflict("already exists")
            assert {"tls.crt", "tls.key"} <= body["data"].keys()
            self.secret = body
            body["metadata"]["resourceVersion"] = str(self.version)
            return body
        if path.rpartition("/")[2] in self.foreign:
            raise Refused(403, "no right to patch it")
        stored = self.secret if path == SECRET else self.configurations[path.rpartition("/")[2]]
        if stored is None:
            raise Refused(404, "not found")
        if body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
            raise Conflict("modified")
        stored["metadata"]["resourceVersion"] = str(self.version)
        if path == SECRET:
            stored["data"] |= body["data"]
        else:
            by_name = {each["name"]: each["clientConfig"] for each in body["webhooks"]}
            for each in stored["webhooks"]:
                assert by_name[each["name"]].keys() == {"caBundle"}
                each["clientConfig"] |= by_name[each["name"]]
        return stored

    def touch(self) -> None:
        """Somebody has changed the Secret."""
        assert self.secret
        self.version += 1
        self.secret["metadata"]["resourceVersion"] = str(self.version)

    @property
    def data(self) -> dict[str, bytes]:
        return {key: base64.b64decode(value) for key, value in (self.secret or {}).get("data", {}).items()}

    def bundle(self, name: str) -> list[x509.Certificate]:
        text = self.configurations[name]["webhooks"][0]["clientConfig"].get("caBundle", "")
        return x509.load_pem_x509_certificates(base64.b64decode(text)) if text else []


def configuration(name: str, **client: Any) -> dict[str, Any]:
    service = client or {"service": {"name": "webhook", "namespace": "moorgate", "path": "/imagecheck"}}
    webhooks = [
        {"name": f"{name}-{number}.moorgate.test", "clientConfig": dict(service)} for number in (0, 1)
    ]
    return {"metadata": {"name": name, "resourceVersion": "1"}, "webhooks": webhooks}


class Site:
    """A world in time: leaders come and go, gateways serve, and the promise is checked at each step."""

    def __init__(self, *configurations: str, times: IssuerTimes = TIMES) -> None:
        self.world = World(*configurations)
        self.times = times
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.issuer = self.leader()
        self.gateway = Certificates(TlsSecret(self.world, "moorgate"), None, self.metrics)
        self.began = asyncio.get_running_loop().time()
        self.published: list[tuple[float, dict[str, list[x509.Certificate]]]] = []

    def leader(self) -> Issuer:
        return Issuer(self.world, "moorgate", self.metrics, self.times)

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time() - self.began)

    @property
    def served(self) -> x509.Certificate | None:
        taken = self.gateway._taken
        return x509.load_pem_x509_certificate(taken[0].certificate) if taken else None

    async def step(self, issuer: Issuer | None = None) -> None:
        """A step of the leader, then a look of the gateway, then the promise."""
        try:
            await (issuer or self.issuer).step(self.now)
        finally:
            await self.gateway.look()
            self._check()

    async def pass_time(self, amount: timedelta, look: float = 5.0) -> None:
        """Time in which the leader looks now and then."""
        end = self.now + amount
        while self.now < end:
            await asyncio.sleep(look)
            await self.step()

    async def until_the_authority_is_due(self) -> None:
        while self.now < START + timedelta(days=240):
            await asyncio.sleep(timedelta(days=20).total_seconds())
            await self.step()
        await asyncio.sleep(timedelta(days=4).total_seconds())

    async def settle(self) -> None:
        await self.step()
        await self.pass_time(self.times.propagation + timedelta(seconds=5))

    def _check(self) -> None:
        loop_time = asyncio.get_running_loop().time()
        self.published.append(
            (loop_time, {name: self.world.bundle(name) for name in self.world.configurations})
        )
        if self.served is None:
            return
        long_ago = loop_time - PROPAGATION
        while len(self.published) > 1 and self.published[1][0] <= long_ago:
            del self.published[0]
        views = [bundles for at, bundles in self.published if at >= long_ago][-1:]
        views += [bundles for at, bundles in self.published if at <= long_ago][-1:]
        for bundles in views:
            for bundle in bundles.values():
                if bundle:  # one that trusts nobody was not there before, or was emptied by hand
                    verify(self.served, bundle, self.now)


def verify(
    leaf: x509.Certificate, bundle: list[x509.Certificate], now: datetime, host: str = "localhost"
) -> None:
    verifier = PolicyBuilder().store(Store(bundle)).time(now).build_server_verifier(x509.DNSName(host))
    verifier.verify(leaf, [])


@virtually
async def test_from_nothing_to_a_served_certificate_at_once() -> None:
    site = Site("pods", "workloads")
    await site.step()
    assert site.world.writes == ["secrets", "pods", "workloads", "moorgate-gateway-tls"], "in this order"
    assert site.served is not None
    for host in ("webhook.moorgate.svc", "moorgate-gateway.moorgate.svc"):
        verify(site.served, site.world.bundle("pods"), site.now, host)
    assert site.world.secret is not None
    assert site.world.secret["type"] == "kubernetes.io/tls"
    for _ in range(3):
        await site.step()
    assert len(site.world.writes) == 4, "nothing is due"


@virtually
async def test_what_a_leaf_and_its_authority_may_do() -> None:
    site = Site("pods")
    await site.step()
    leaf, (authority,) = site.served, site.world.bundle("pods")
    assert leaf is not None
    for each in (leaf, authority):
        key = each.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert each.not_valid_before_utc == START - timedelta(hours=1)
    assert leaf.not_valid_after_utc == START + timedelta(days=90)
    assert authority.not_valid_after_utc == START + timedelta(days=365)
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    may = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (may.digital_signature, may.key_cert_sign) == (True, False)
    may = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (may.digital_signature, may.key_cert_sign, may.crl_sign) == (False, True, True)


@virtually
async def test_a_leaf_is_renewed_at_two_thirds_of_its_life_by_the_same_authority() -> None:
    site = Site("pods")
    await site.step()
    first = site.served
    await asyncio.sleep(timedelta(days=59, hours=23).total_seconds())
    await site.step()
    assert site.served == first
    await asyncio.sleep(timedelta(hours=1).total_seconds())
    await site.step()
    assert site.served != first
    assert len(site.world.bundle("pods")) == 1


@virtually
async def test_a_new_authority_is_trusted_before_it_signs_and_the_old_until_its_leaves_are_over() -> None:
    site = Site("pods", "workloads")
    await site.step()
    (old,), made = site.world.bundle("pods"), 0.0
    while len(site.world.bundle("pods")) == 1:
        await asyncio.sleep(timedelta(hours=12).total_seconds())
        await site.step()
        made = asyncio.get_running_loop().time()
    assert site.now - START == timedelta(days=243, hours=12), "two thirds of a year, at the next look"
    new = site.world.bundle("pods")[0]
    assert site.world.bundle("workloads") == [new, old]
    before = site.served
    await site.pass_time(timedelta(seconds=PROPAGATION - 5))
    assert site.served == before
    await site.pass_time(timedelta(seconds=10))
    assert site.served is not None
    assert site.served.issuer == new.subject
    while len(site.world.bundle("pods")) == 2:
        await asyncio.sleep(timedelta(hours=12).total_seconds())
        await site.step()
    trusted_for = timedelta(seconds=asyncio.get_running_loop().time() - made)
    assert timedelta(days=90, hours=1) <= trusted_for <= timedelta(days=90, hours=13)
    assert site.world.bundle("workloads") == [new]
    assert x509.load_pem_x509_certificates(site.world.data["bundle.crt"]) == [new]


@virtually
async def test_a_configuration_of_somebody_else_holds_up_no_certificate() -> None:
    site = Site("pods", "strangers")
    site.world.foreign = {"strangers"}
    await site.settle()
    assert site.served is not None
    assert (len(site.world.bundle("pods")), len(site.world.bundle("strangers"))) == (1, 0)
    await site.until_the_authority_is_due()
    first = site.served
    await site.settle()
    assert site.served != first


@virtually
async def test_one_that_trusts_us_and_cannot_be_told_keeps_the_certificate_it_trusts() -> None:
    site = Site("pods", "copy")
    await site.step()
    site.world.foreign = {"copy"}
    await site.until_the_authority_is_due()
    first = site.served
    for _ in range(3):
        with pytest.raises(Refused):
            await site.step()
        await asyncio.sleep(PROPAGATION)
    assert site.served == first
    assert len(site.world.bundle("pods")) == 2, "the others are told"
    site.world.foreign = set()
    await site.settle()
    assert site.served != first


@virtually
async def test_years_go_by_and_the_promise_holds() -> None:
    site = Site("pods")
    await site.step()
    authorities: set[x509.Certificate] = set()
    while site.now < START + timedelta(days=1500):
        await site.pass_time(timedelta(minutes=2), look=40)
        await asyncio.sleep(timedelta(days=5).total_seconds())
        authorities |= set(site.world.bundle("pods"))
        assert len(site.world.bundle("pods")) <= 2
    assert len(authorities) == 7


@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("writes", range(5))
@pytest.mark.parametrize("case", ["install", "renewal", "deleted"])
def test_a_leader_may_die_between_any_two_lines(case: str, writes: int, is_before: bool) -> None:  # noqa: FBT001
    @virtually
    async def check() -> None:
        site = Site("pods", "workloads")
        if case != "install":
            await site.step()
        if case == "renewal":
            await site.until_the_authority_is_due()
        if case == "deleted":
            site.world.secret = None
        first = site.served
        site.world.dies_after, site.world.dies_before_write = len(site.world.writes) + writes, is_before
        try:
            await site.settle()
        except Died:
            site.world.dies_after = None
            site.issuer = site.leader()
            await site.settle()
        assert site.served is not None
        assert site.served != first
        newest = x509.load_pem_x509_certificate(site.world.data["ca.crt"])
        assert site.served.issuer == newest.subject
        assert len(site.world.bundle("pods")) == (1 if case == "install" else 2)

    check()


@virtually
async def test_two_leaders_for_a_moment_make_one_authority() -> None:
    site = Site("pods")
    second = site.leader()

    async def overtake() -> None:
        await second.step(site.now)

    site.world.before_write = overtake
    with pytest.raises(Conflict):
        await site.step()
    await site.step()
    await site.step(second)
    assert len(site.world.bundle("pods")) == 1
    assert site.world.writes == ["secrets", "pods", "moorgate-gateway-tls"]


@virtually
async def test_a_leader_that_slept_takes_nobodys_trust_away() -> None:
    """It read the Secret before its sleep; since then another has renewed the authority and published it."""
    site = Site("pods")
    await site.step()
    sleeper, other = site.leader(), site.leader()
    old = site.world.bundle("pods")
    await site.until_the_authority_is_due()
    registration = await sleeper._registrations.read()
    await other.step(site.now)
    new = site.world.bundle("pods")
    assert len(new) == 2
    await sleeper._registrations.publish(registration, tuple(old), site.now)
    assert site.world.bundle("pods") == new
    registration = await sleeper._registrations.read()
    await sleeper._registrations.publish(registration, tuple(old), site.now)
    assert site.world.bundle("pods") == new


@virtually
async def test_two_who_publish_on_the_same_reading_get_a_conflict() -> None:
    site = Site("pods")
    await site.step()
    one, two = (make_authority(site.now, LIVES.authority).certificate for _ in range(2))
    registrations = site.issuer._registrations
    registration = await registrations.read()
    await registrations.publish(registration, (one,), site.now)
    with pytest.raises(Conflict):
        await registrations.publish(registration, (two,), site.now)
    assert one in site.world.bundle("pods")


@virtually
async def test_authorities_of_the_same_second_have_one_order() -> None:
    same = [make_authority(START, LIVES.authority).certificate for _ in range(8)]
    orders = {trusted(same[each:] + same[:each], same, START, LIVES) for each in range(8)}
    orders.add(trusted(reversed(same), same, START, LIVES))
    assert len(orders) == 1


@virtually
async def test_a_secret_that_somebody_deleted_is_made_anew_without_a_gap() -> None:
    site = Site("pods")
    await site.step()
    first, (old,) = site.served, site.world.bundle("pods")
    site.world.secret = None
    await site.step()
    assert site.served == first, "nobody serves what is not trusted yet"
    both = site.world.bundle("pods")  # made within one second, so in no order that matters
    assert old in both
    (new,) = [each for each in both if each != old]
    await site.settle()
    assert site.served is not None
    assert site.served != first
    assert site.served.issuer == new.subject


async def _break(site: Site, key: str, value: bytes | None) -> None:
    assert site.world.secret
    if value is None:
        del site.world.secret["data"][key]
    else:
        site.world.secret["data"][key] = base64.b64encode(value).decode()
    site.world.touch()


@pytest.mark.parametrize(
    "value", [None, b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nMIIB\n", b"\xff\x00"]
)
@pytest.mark.parametrize("key", ["tls.crt", "tls.key", "ca.crt", "ca.key", "bundle.crt"])
def test_a_secret_that_somebody_broke_is_mended_without_a_gap(
    key: str, value: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    @virtually
    async def check() -> None:
        site = Site("pods")
        await site.settle()
        before = set(site.world.bundle("pods"))
        await _break(site, key, value)
        await site.settle()
        assert site.served is not None
        assert before <= set(site.world.bundle("pods"))
        material = (await TlsSecret(site.world, "moorgate").held()).material
        assert material.authority is not None
        assert material.leaf is not None
        assert site.gateway._taken is not None
        assert site.gateway._taken[0] == material.leaf

    check()
    printed = "".join(capsys.readouterr())
    assert "PRIVATE KEY" not in printed
    lines = [each for each in printed.splitlines() if "secret_is_made_anew" in each]
    assert len(lines) == 2, "once when there was none, once when it was broken"
    assert key in lines[1]


@pytest.mark.parametrize(
    ("key", "foreign"),
    [("ca.key", "key"), ("ca.crt", "certificate"), ("tls.key", "key"), ("tls.crt", "certificate")],
)
def test_parts_that_belong_to_another_are_not_used(key: str, foreign: str) -> None:
    @virtually
    async def check() -> None:
        site = Site("pods")
        await site.settle()
        other = with_leaf(Material(authority=make_authority(START, LIVES.authority)), {"x"}, START, LIVES)
        assert other.authority
        assert other.leaf
        pair = other.authority.pair if key.startswith("ca") else other.leaf
        await _break(site, key, getattr(pair, foreign))
        await site.settle()
        assert site.served is not None
        verify(site.served, site.world.bundle("pods"), site.now)
        await site.step()

    check()


@virtually
async def test_a_whole_foreign_leaf_is_never_served_and_replaced() -> None:
    site = Site("pods")
    await site.settle()
    first = site.served
    other = with_leaf(Material(authority=make_authority(START, LIVES.authority)), {"x"}, START, LIVES)
    assert other.leaf
    await _break(site, "tls.crt", other.leaf.certificate)
    await _break(site, "tls.key", other.leaf.key)
    with pytest.raises(BadCertificate, match=r"signed by nobody in bundle\.crt"):
        await TlsSecret(site.world, "moorgate").read()
    await site.gateway.look()
    assert site.served == first
    await site.settle()
    assert site.served not in (first, None)


@virtually
async def test_a_configuration_that_comes_later_or_is_emptied_is_filled_and_its_hosts_served() -> None:
    site = Site()
    await site.step()
    assert site.served is not None
    site.world.configurations["later"] = configuration("later", url="https://[2001:db8::1]:8443/imagecheck/x")
    site.world.configurations["odd"] = configuration("odd", url="https://exämple_/imagecheck")
    await site.step()
    assert len(site.world.bundle("later")) == 1
    assert len(site.world.bundle("odd")) == 1
    names = site.served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "2001:db8::1"]
    for each in site.world.configurations["later"]["webhooks"]:
        each["clientConfig"]["caBundle"] = "Cg=="
    await site.step()
    assert len(site.world.bundle("later")) == 1


@virtually
async def test_an_authority_of_somebody_else_in_the_bundle_stays_until_its_leaves_are_over() -> None:
    """From cert-manager to our own issuer: gateways not yet restarted still serve its leaf."""
    site = Site("pods")
    foreign = make_authority(START - timedelta(days=1), timedelta(days=3650)).certificate
    for each in site.world.configurations["pods"]["webhooks"]:
        each["clientConfig"]["caBundle"] = base64.b64encode(pem([foreign])).decode()
    await site.step()
    assert site.gateway._taken is None, "first everybody trusts the new one"
    await site.settle()
    assert site.served is not None
    assert foreign in site.world.bundle("pods")
    await asyncio.sleep(timedelta(days=90, hours=2).total_seconds())
    await site.settle()
    assert foreign not in site.world.bundle("pods")


@virtually
async def test_the_api_server_away_or_refusing_changes_nothing_but_a_line_and_a_metric() -> None:
    site = Site("pods")
    await site.step()
    first = site.served
    for refusal in (Unavailable("kubernetes", "503"), Refused(403, "forbidden")):
        site.world.refusal = refusal
        await site.issuer._try_step()
        await site.gateway.look()
        assert site.served == first
        assert site.metrics.degraded.labels("issuer")._value.get() == 1
        assert site.metrics.degraded.labels("certificate")._value.get() == 1
    site.world.refusal = None
    await site.issuer._try_step()
    await site.gateway.look()
    assert site.metrics.degraded.labels("issuer")._value.get() == 0
    assert site.metrics.degraded.labels("certificate")._value.get() == 0


@virtually
async def test_a_cluster_that_was_off_for_years_comes_back() -> None:
    site = Site("pods")
    await site.step()
    first = site.served
    await asyncio.sleep(timedelta(days=1000).total_seconds())
    await site.issuer.step(site.now)
    await site.gateway.look()
    assert site.served != first
    assert site.served is not None
    verify(site.served, site.world.bundle("pods"), site.now)
    assert len(site.world.bundle("pods")) == 1


@virtually
async def test_a_clock_an_hour_fast_makes_certificates_that_others_take() -> None:
    site = Site("pods")
    await site.issuer.step(site.now + timedelta(minutes=59))
    await site.gateway.look()
    assert site.served is not None
    verify(site.served, site.world.bundle("pods"), site.now)


@virtually
async def test_an_authority_that_was_taken_out_again_is_waited_for_anew() -> None:
    site = Site("pods")
    await site.step()
    (old,) = site.world.bundle("pods")
    await site.until_the_authority_is_due()
    await site.step()
    before = site.served
    await site.pass_time(timedelta(seconds=PROPAGATION / 2))
    for each in site.world.configurations["pods"]["webhooks"]:
        each["clientConfig"]["caBundle"] = base64.b64encode(pem([old])).decode()
    await site.pass_time(timedelta(seconds=PROPAGATION - 5))
    assert len(site.world.bundle("pods")) == 2
    assert site.served == before
    await site.pass_time(timedelta(seconds=15))
    assert site.served != before


def test_who_has_signed_the_leaf_stays_trusted_as_long_as_that_is_valid() -> None:
    """Whatever the lifetimes are: a newer version may have shorter ones."""
    old, lives = make_authority(START, LIVES.authority), Lifetimes(leaf=timedelta(days=2))
    leaf = with_leaf(Material(authority=old), {"localhost"}, START, LIVES).leaf
    new = make_authority(START + timedelta(days=1), LIVES.authority)
    material = Material(authority=new, trusted=(new.certificate, old.certificate), leaf=leaf)
    for days, authorities in ((60, 2), (91, 1)):
        assert len(with_authority(material, (), START + timedelta(days=days), lives).trusted) == authorities


def test_a_lost_bundle_is_taken_from_the_configurations() -> None:
    old, new = (make_authority(START + timedelta(days=each), LIVES.authority) for each in (0, 1))
    now = START + timedelta(days=2)
    material = with_authority(Material(authority=new), [old.certificate], now, LIVES)
    assert material.trusted == (new.certificate, old.certificate)


def test_an_authority_is_a_ca_with_its_own_key() -> None:
    one, two = (make_authority(START, LIVES.authority) for _ in range(2))
    assert read_authority(one.pair).certificate == one.certificate
    leaf = with_leaf(Material(authority=one), {"localhost"}, START, LIVES).leaf
    assert leaf
    for wrong in (KeyPair(one.pair.certificate, two.pair.key), leaf):
        with pytest.raises(BadCertificate):
            read_authority(wrong)


def test_a_leaf_never_outlives_its_authority() -> None:
    lives = Lifetimes(leaf=timedelta(days=90), authority=timedelta(days=10))
    material = with_leaf(with_authority(Material(), (), START, lives), {"localhost"}, START, lives)
    assert material.leaf_certificate is not None
    assert material.leaf_certificate.not_valid_after_utc == START + timedelta(days=10)


def test_a_bundle_stays_bounded_and_its_authority_in_it() -> None:
    many = [make_authority(START + timedelta(days=each), LIVES.authority).certificate for each in range(30)]
    now = START + timedelta(days=40)
    own = make_authority(START, LIVES.authority)
    material = with_authority(Material(authority=own), many, now, LIVES)
    assert len(material.trusted) <= 12
    assert own.certificate in material.trusted


def test_nothing_of_it_prints_a_key() -> None:
    material = with_leaf(with_authority(Material(), (), START, LIVES), {"localhost"}, START, LIVES)
    assert "PRIVATE" not in repr(material)
    assert "PRIVATE" not in repr(msgspec.structs.astuple(material))
