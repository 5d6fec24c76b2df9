"""`moorgate secrets apply` on a real API server: made once, kept for ever, safe when two run at once."""

import asyncio
import base64
import contextlib
import json
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.dev.kubectl import Kubectl
from services.cli import secrets
from services.cli.bootstrap.plan import Failed
from services.cli.bootstrap.secrets import KubeSecret, Metadata
from services.cli.secrets_made import USERS, users
from services.cli.secrets_nats_tls import LIVES, authority_values, read, tls_values
from shared.authority import read_bundle

HOSTS = "nats.moorgate.svc,*.nats-headless.moorgate.svc,127.0.0.1"
NAMES = {"nats_users": "n-users", "nats_ca": "n-ca", "nats_tls": "n-tls", "webhook_path": "path"}
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def in_cluster(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    monkeypatch.setenv("KUBECONFIG", str(kubectl.plane.kubeconfig()))
    monkeypatch.setenv("MOORGATE_NAMESPACE", kubectl.namespace)
    return kubectl


async def apply(**options: Any) -> int:
    return await asyncio.to_thread(lambda: secrets.apply(**{**NAMES, "nats_hosts": HOSTS, **options}))


async def data(kubectl: Kubectl, name: str) -> dict[str, str]:
    found = json.loads(await kubectl.ok("get", "secret", name, "-o", "json"))
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


async def everything(kubectl: Kubectl) -> dict[str, dict[str, str]]:
    return {name: await data(kubectl, name) for name in NAMES.values()}


async def test_what_is_made_is_kept_and_never_printed(
    in_cluster: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await apply(dry_run=True) == 0
    assert "would create" in capsys.readouterr().out
    assert await in_cluster.ok("get", "secrets", "-o", "name") == ""

    assert await apply() == 0
    made = await everything(in_cluster)
    assert set(made["n-users"]) == set(USERS)
    assert len(set(made["n-users"].values())) == len(USERS)
    assert len(made["path"]["secret"]) >= 32
    first = capsys.readouterr().out
    assert first.count("created") == 4

    assert await apply() == 0
    second = capsys.readouterr().out
    assert second.count("unchanged") == 4
    assert "created" not in second
    assert await everything(in_cluster) == made
    for value in (value for each in made.values() for key, value in each.items() if key != "ca.crt"):
        assert value not in first + second


async def test_a_missing_password_is_added_beside_the_others(in_cluster: Kubectl) -> None:
    await in_cluster.ok("create", "secret", "generic", "n-users", "--from-literal=gateway=mine")
    assert await apply() == 0
    made = await data(in_cluster, "n-users")
    assert made["gateway"] == "mine"
    assert set(made) == set(USERS)


async def test_runs_at_once_agree(in_cluster: Kubectl) -> None:
    codes = await asyncio.gather(*(apply() for _ in range(4)))
    assert codes == [0, 0, 0, 0]
    made = await everything(in_cluster)
    leaf = x509.load_pem_x509_certificate(made["n-tls"]["tls.crt"].encode())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(made["n-ca"]["ca.crt"].encode()))
    assert made["n-ca"]["ca.crt"] in made["n-tls"]["ca.crt"]


async def test_the_certificate_serves_both_ways(in_cluster: Kubectl, tmp_path: Path) -> None:
    assert await apply() == 0
    made = await data(in_cluster, "n-tls")
    for name, content in made.items():
        (tmp_path / name).write_text(content)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    server.load_verify_locations(tmp_path / "ca.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    client.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")

    for host in ("nats.moorgate.svc", "nats-2.nats-headless.moorgate.svc"):
        _shake_hands(server, client, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(server, client, "nats.elsewhere.svc")


def test_half_a_pair_of_flags_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert secrets.apply(nats_tls="tls") == 2
    assert "--nats-ca" in capsys.readouterr().err
    assert secrets.apply(nats_tls="tls", nats_ca="ca") == 2
    assert "--nats-hosts" in capsys.readouterr().err


def test_nats_reads_every_password_as_a_word() -> None:
    for password in users(None).values():
        assert re.fullmatch(r"[a-z][a-z0-9]{40,}", password)


def secret(values: dict[str, str]) -> KubeSecret:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return KubeSecret(metadata=Metadata(), data=encoded)


@pytest.fixture
def authority() -> KubeSecret:
    return secret(authority_values(None, START))


def made_tls(authority: KubeSecret, present: KubeSecret | None, now: datetime, *hosts: str) -> dict[str, str]:
    return tls_values(present, read(authority), frozenset(hosts or {"nats"}), now)


def test_a_certificate_is_renewed_when_two_thirds_of_its_life_are_over(authority: KubeSecret) -> None:
    values = made_tls(authority, None, START)
    present = secret(values)
    assert made_tls(authority, present, START + LIVES.leaf * 0.66) == {}
    renewed = made_tls(authority, present, START + LIVES.leaf * 0.67)
    assert set(renewed) == {"tls.crt", "tls.key"}
    assert authority_values(authority, START + LIVES.leaf) == {}
    leaf = x509.load_pem_x509_certificate(values["tls.crt"].encode())
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_a_new_name_makes_a_new_certificate(authority: KubeSecret) -> None:
    present = secret(made_tls(authority, None, START))
    assert set(made_tls(authority, present, START, "nats", "other")) == {"tls.crt", "tls.key"}


def test_a_lost_authority_is_trusted_before_its_successor_signs(authority: KubeSecret) -> None:
    values = made_tls(authority, None, START)
    successor = secret(authority_values(None, START))
    change = made_tls(successor, secret(values), START)
    assert set(change) == {"ca.crt"}, "what serves is trusted by all, and stays"
    assert len(read_bundle(change["ca.crt"].encode())) == 2
    due = START + LIVES.leaf * 0.7
    renewed = made_tls(successor, secret({**values, **change}), due)
    leaf = x509.load_pem_x509_certificate(renewed["tls.crt"].encode())
    leaf.verify_directly_issued_by(read(successor).certificate)


def test_an_authority_that_is_due_has_a_successor(authority: KubeSecret) -> None:
    assert authority_values(authority, START + timedelta(days=13 * 365)) == {}
    assert set(authority_values(authority, START + timedelta(days=14 * 365))) == {"ca.crt", "ca.key"}


def test_what_others_made_is_never_written_over(authority: KubeSecret) -> None:
    stranger = secret(authority_values(None, START))
    foreign = made_tls(stranger, None, START)
    foreign["ca.crt"] = authority.value("ca.crt")
    with pytest.raises(Failed, match="not made here"):
        made_tls(authority, secret(foreign), START)
    with pytest.raises(Failed, match="delete it"):
        made_tls(authority, secret({"tls.crt": "broken", "tls.key": "broken"}), START)
    with pytest.raises(Failed, match="delete it"):
        authority_values(secret({"ca.crt": "broken", "ca.key": "broken"}), START)


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(here, there, server_hostname=host)
    other = server.wrap_bio(there, here, server_side=True)
    for _ in range(4):
        for side in (one, other):
            with _wanting():
                side.do_handshake()


@contextlib.contextmanager
def _wanting() -> Iterator[None]:
    with contextlib.suppress(ssl.SSLWantReadError):
        yield
