"""What is read of a notification, and which tenants it may be about; the settings of the port that takes them."""

import contextlib
from pathlib import Path
from typing import cast

import msgspec
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.scanner import config, notices
from services.scanner.anchore import Anchore
from services.scanner.hints import Hints
from services.scanner.metrics import NotificationMetrics, ScannerMetrics
from services.scanner.notices import BadNotice
from services.scanner.notifications import serve_notifications
from shared.anchore import AnchoreSettings
from shared.broker import Broker, BrokerSettings
from shared.errors import BadSetting
from shared.settings import Secret
from tests.support.recordings import load

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def recorded(number: int) -> bytes:
    return msgspec.json.encode(next(each for each in load() if each.number == number).request["body"])


@pytest.mark.parametrize(
    ("number", "kind", "tags", "digests"),
    [
        (190, "analysis_update", ["127.0.0.1:5000/team/debian:12"], 1),
        (194, "policy_eval", ["127.0.0.1:5000/team/web:1.0"], 1),
        (222, "vuln_update", ["127.0.0.1:5000/team/debian:12"], 1),
        (302, "tag_update", [], 2),
        (196, "event_log", [], 0),
        (323, "event_log", [], 1),
        (324, "event_log", ["127.0.0.1:5000/team/bad:1"], 0),
    ],
)
def test_recorded_notifications(number: int, kind: str, tags: list[str], digests: int) -> None:
    if not load():
        pytest.skip("the recordings are not here")
    notice = notices.decode(recorded(number))
    assert (notice.kind, notice.account) == (kind, "admin")
    assert [str(tag) for tag in notice.tags] == tags
    assert len(notice.digests) == digests


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ("other", "", [], [])),
        ({"queue_id": "vuln_update", "account_name": "a"}, ("vuln_update", "a", [], [])),
        ({"queueId": ["vuln_update"], "userId": 1, "account_name": None}, ("other", "", [], [])),
        ({"subscription_key": "r.example/a:1", "image_digest": ONE}, ("other", "", ["r.example/a:1"], [ONE])),
        ({"subscription_key": f"r.example/a:sha256-{'1' * 64}"}, ("other", "", [f"r.example/a@{ONE}"], [])),
        ({"curr_eval": [ONE], "last_eval": [TWO, 3, None]}, ("other", "", [], [ONE, TWO])),
        ({"curr_eval": {"imageDigest": ONE}, "last_eval": {"image_digest": [TWO]}}, ("other", "", [], [ONE])),
        (
            {"resource": {"id": "a:1", "type": "image_tag"}},
            ("event_log", "", ["docker.io/library/a:1"], []),
        ),
        ({"resource": {"id": "a:1", "type": "policy_bundle"}}, ("event_log", "", [], [])),
    ],
)
def test_whatever_stands_where_a_tag_or_a_digest_may_stand_is_taken(
    body: object, expected: tuple[str, str, list[str], list[str]]
) -> None:
    for wrapped in (body, {"data": {"notification_payload": body}}):
        notice = notices.decode(msgspec.json.encode(wrapped))
        found = [str(tag) for tag in notice.tags], list(notice.digests)
        assert (notice.account, *found) == expected[1:]
        if wrapped is body:
            assert notice.kind == expected[0]


def test_no_notice_names_more_than_a_few() -> None:
    many = [f"sha256:{number:064x}" for number in range(1000)]
    assert len(notices.decode(msgspec.json.encode({"curr_eval": many})).digests) == notices.MAX_NAMED


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(msgspec.json.encode))
def test_nothing_but_its_own_error_comes_of_any_body(body: bytes) -> None:
    with contextlib.suppress(BadNotice):
        notices.decode(body)


def test_a_pod_may_name_an_image_in_four_ways() -> None:
    notice = notices.decode(msgspec.json.encode({"subscription_key": "a:1", "curr_eval": [ONE, TWO]}))
    assert [str(each) for each in notices.references(notice.tags, notice.digests)] == [
        "docker.io/library/a:1",
        f"docker.io/library/a@{ONE}",
        f"docker.io/library/a:1@{ONE}",
        f"docker.io/library/a@{TWO}",
        f"docker.io/library/a:1@{TWO}",
    ]


def hints_of(registry: CollectorRegistry) -> Hints:
    metrics = ScannerMetrics(registry)
    broker = Broker(BrokerSettings(url="nats://127.0.0.1:9"), "tests", metrics)
    return Hints(broker, NotificationMetrics(registry, metrics))


@pytest.mark.parametrize(
    ("account", "concerned"),
    [
        ("team-a", {"a"}),
        ("team-b", {"b", "other-anchore"}),
        ("robot", {"a", "b", "other-anchore"}),
        ("unknown", {"a", "b", "other-anchore"}),
        ("", {"a", "b", "other-anchore"}),
    ],
)
async def test_only_tenants_of_the_account_are_concerned_if_it_is_known(
    account: str, concerned: set[str]
) -> None:
    hints = hints_of(CollectorRegistry())
    made = [("a", "robot", "team-a"), ("b", "team-b", None), ("other-anchore", "x", "team-b")]
    with contextlib.ExitStack() as stack:
        for name, user, of in made:
            settings = AnchoreSettings(url="http://a", username=user, password=Secret("p"), account=of)
            stack.enter_context(hints.tenant(name, settings, cast("Anchore", None)))
        assert set(hints._concerned(account)) == concerned
    assert hints._concerned(account) == {}


async def test_without_nats_notices_are_to_come_again() -> None:
    assert not hints_of(CollectorRegistry()).offer(notices.Notice(kind="other"))


# Settings.


@pytest.fixture
def port(tmp_path: Path) -> dict[str, str]:
    leaf = trustme.CA().issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(tmp_path / "tls.key")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    return {
        "MOORGATE_ANCHORE_URL": "http://anchore-api:8228",
        "MOORGATE_ANCHORE_PASSWORD": "p",
        "MOORGATE_NOTIFICATIONS_LISTEN": "127.0.0.1:0",
        "MOORGATE_NOTIFICATIONS_CERT_FILE": str(tmp_path / "tls.crt"),
        "MOORGATE_NOTIFICATIONS_KEY_FILE": str(tmp_path / "tls.key"),
        "MOORGATE_NOTIFICATIONS_SECRET": "hunter2",
    }


def test_the_port_is_off_unless_it_has_an_address(port: dict[str, str]) -> None:
    loaded = config.load(port).notifications
    assert loaded is not None
    assert loaded.secret.reveal() == "hunter2"
    assert "hunter2" not in repr(loaded)
    del port["MOORGATE_NOTIFICATIONS_LISTEN"]
    assert config.load(port).notifications is None


def test_the_secret_may_be_a_file(port: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the file\n")
    del port["MOORGATE_NOTIFICATIONS_SECRET"]
    loaded = config.load({**port, "MOORGATE_NOTIFICATIONS_SECRET_FILE": str(tmp_path / "secret")})
    assert loaded.notifications is not None
    assert loaded.notifications.secret.reveal() == "of the file"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SECRET", "", "NOTIFICATIONS_SECRET"),
        ("CERT_FILE", "", "NOTIFICATIONS_CERT_FILE"),
        ("KEY_FILE", "", "NOTIFICATIONS_KEY_FILE"),
        ("KEY_FILE", "/no/such/key", "/no/such/key"),
        ("LISTEN", "nine", "host:port"),
    ],
)
def test_a_port_that_lacks_something_stops_the_scanner(
    port: dict[str, str], name: str, value: str, says: str
) -> None:
    with pytest.raises(BadSetting, match=says) as caught:
        config.load({**port, f"MOORGATE_NOTIFICATIONS_{name}": value})
    assert "\n" not in str(caught.value)


async def test_a_key_that_does_not_fit_stops_it_too(port: dict[str, str], tmp_path: Path) -> None:
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(tmp_path / "tls.key")
    settings = config.load(port).notifications
    assert settings is not None
    registry = CollectorRegistry()
    metrics = NotificationMetrics(registry, ScannerMetrics(CollectorRegistry()))
    with pytest.raises(BadSetting, match="MOORGATE_NOTIFICATIONS_CERT_FILE"):
        async with serve_notifications(settings, hints_of(CollectorRegistry()), metrics):
            pass
