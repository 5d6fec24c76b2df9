"""Who may not ask the gateway gets no answer and leaves no record: wrong certificates, wrong secrets.

Who may read and write in NATS: tests/integration/test_nats_permissions.py and test_nats_access.py.
"""

import hmac
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
import trustme

from services.gateway import webhook
from tests.security.doors import SECRET, Port, gateway_port, trusting
from tests.support.builders import pod, review

NOW = datetime.now(UTC)
DAY = timedelta(days=1)

Caller = Callable[[ssl.SSLContext, trustme.CA], None]


def with_none(_: ssl.SSLContext, __: trustme.CA) -> None:
    """No certificate at all."""


def of_another_authority(context: ssl.SSLContext, _: trustme.CA) -> None:
    trustme.CA().issue_cert("apiserver", common_name="apiserver").configure_cert(context)


def of_an_authority_of_the_same_name(context: ssl.SSLContext, ours: trustme.CA) -> None:
    del ours
    impostor = trustme.CA(organization_name="trustme v1", organization_unit_name="the same")
    impostor.issue_cert("apiserver").configure_cert(context)


def expired(context: ssl.SSLContext, ours: trustme.CA) -> None:
    ours.issue_cert("apiserver", not_before=NOW - 2 * DAY, not_after=NOW - DAY).configure_cert(context)


def not_valid_yet(context: ssl.SSLContext, ours: trustme.CA) -> None:
    ours.issue_cert("apiserver", not_before=NOW + DAY, not_after=NOW + 2 * DAY).configure_cert(context)


def of_an_authority_below_another(context: ssl.SSLContext, _: trustme.CA) -> None:
    trustme.CA().create_child_ca().issue_cert("apiserver").configure_cert(context)


async def ask(port: Port, context: ssl.SSLContext, path: str) -> int:
    body = review(pod("nginx:1"))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{port.url}{path}", json=body, ssl=context) as answer,
    ):
        return answer.status


@pytest.mark.parametrize(
    "present",
    [
        with_none,
        of_another_authority,
        of_an_authority_of_the_same_name,
        expired,
        not_valid_yet,
        of_an_authority_below_another,
    ],
)
async def test_without_a_certificate_of_the_client_ca_nobody_is_answered(
    present: Caller, tmp_path: Path
) -> None:
    servers, clients = trustme.CA(), trustme.CA(organization_unit_name="the same")
    async with gateway_port(tmp_path, servers, client_ca=clients) as (port, gateway):
        stranger = trusting(servers)
        present(stranger, clients)
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await ask(port, stranger, f"/imagecheck/{SECRET}")
        assert gateway.recorded == [], "knowing the secret is not enough where a certificate is wanted"
        known = trusting(servers)
        clients.issue_cert("apiserver").configure_cert(known)
        assert await ask(port, known, "/imagecheck/wrong") == 404, (
            "nor is a certificate where a secret is wanted"
        )
        assert await ask(port, known, f"/imagecheck/{SECRET}") == 200
        assert len(gateway.recorded) == 1


async def test_a_wrong_secret_is_compared_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    fake = type("hmac", (), {"compare_digest": staticmethod(compare)})
    monkeypatch.setattr(webhook, "hmac", fake)
    authority = trustme.CA()
    wrong = [SECRET[:-1], SECRET + "x", "x" + SECRET[1:], SECRET.upper(), "x" * 4000, "%C3%A9"]
    async with gateway_port(tmp_path, authority) as (port, gateway):
        for each in wrong:
            assert await ask(port, trusting(authority), f"/imagecheck/{each}") == 404
        assert gateway.recorded == []
    assert len(compared) == len(wrong)
    assert {ours for _, ours in compared} == {SECRET.encode()}


async def test_a_tls_version_of_old_is_not_spoken(tmp_path: Path) -> None:
    authority = trustme.CA()
    async with gateway_port(tmp_path, authority) as (port, _):
        old = trusting(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await ask(port, old, f"/imagecheck/{SECRET}") == 200
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = old.minimum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(aiohttp.ClientError):
            await ask(port, old, f"/imagecheck/{SECRET}")
