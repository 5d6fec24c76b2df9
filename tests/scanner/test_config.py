"""The scanner's settings: good ones typed, wrong ones refused in one line that names them."""

from pathlib import Path

import pytest

from services.scanner import config
from services.scanner.evaluation import OnUnmapped
from shared.errors import BadSetting

GOOD = {
    "MOORGATE_ANCHORE_URL": "http://anchore-api:8228",
    "MOORGATE_ANCHORE_PASSWORD": "s3cret-p4ss",
}


def test_little_must_be_set() -> None:
    loaded = config.load(GOOD)
    [(name, tenant)] = loaded.tenants.read().items()
    anchore = tenant.anchore
    assert (name, anchore.username, anchore.password.reveal()) == ("default", "admin", "s3cret-p4ss")
    assert anchore.url == "http://anchore-api:8228"
    assert (anchore.ca_file, anchore.skip_verify, anchore.account) == (None, False, None)
    lifetimes = loaded.rules.lifetimes
    assert (lifetimes.passed, lifetimes.failed) == (6 * 3600, 300)
    assert (lifetimes.tag, lifetimes.known) == (15 * 60, 168 * 3600)
    assert loaded.rules.on_unmapped is OnUnmapped.PASS
    assert loaded.pending_limit == 30 * 60
    assert loaded.source.startswith("moorgate/scanner/")


def test_times_to_live_may_be_nothing() -> None:
    nothing = {f"MOORGATE_{name}_TTL": "0" for name in ("PASS", "FAIL", "TAG")}
    lifetimes = config.load({**GOOD, **nothing}).rules.lifetimes
    assert (lifetimes.passed, lifetimes.failed, lifetimes.tag) == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MOORGATE_ANCHORE_URL", "", "not set"),
        ("MOORGATE_ANCHORE_URL", "anchore-api:8228", "http(s)://"),
        ("MOORGATE_ANCHORE_URL", "ftp://anchore", "http(s)://"),
        ("MOORGATE_ANCHORE_URL", "http://", "http(s)://"),
        ("MOORGATE_ANCHORE_URL", "http://[::1", "http(s)://"),
        ("MOORGATE_ANCHORE_URL", "http://anchore:port", "http(s)://"),
        ("MOORGATE_ANCHORE_URL", "http://anchore:99999", "http(s)://"),
        ("MOORGATE_ANCHORE_URL", "http://anchore/?account=a", "http(s)://"),
        ("MOORGATE_ANCHORE_PASSWORD", "", "_FILE"),
        ("MOORGATE_ANCHORE_USERNAME", "admin:x", ":"),
        ("MOORGATE_ANCHORE_CA_FILE", "/no/such/file.pem", "/no/such/file.pem"),
        ("MOORGATE_ANCHORE_INSECURE_SKIP_VERIFY", "perhaps", "true or false"),
        ("MOORGATE_ANCHORE_API", "v7", "v1"),
        ("MOORGATE_SCANNER_CONCURRENCY", "0", "at least 1"),
        ("MOORGATE_SCANNER_CONCURRENCY", "many", "whole number"),
        ("MOORGATE_PASS_TTL", "6", "duration"),
        ("MOORGATE_FAIL_TTL", "-5m", "duration"),
        ("MOORGATE_TAG_TTL", "soon", "duration"),
        ("MOORGATE_KNOWN_TTL", "0", "at least"),
        ("MOORGATE_PENDING_LIMIT", "half an hour", "duration"),
        ("MOORGATE_PENDING_LIMIT", "2h", "at most 0:50:00"),
        ("MOORGATE_ON_UNMAPPED", "deny", "pass, fail"),
        ("MOORGATE_METRICS_LISTEN", "9090", "host:port"),
        ("MOORGATE_LOG_LEVEL", "loud", "one of"),
        ("MOORGATE_LOG_FORMAT", "xml", "one of"),
        ("MOORGATE_PASS_TLT", "6h", "no setting"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(name: str, value: str, says: str) -> None:
    with pytest.raises(BadSetting) as refused:
        config.load({**GOOD, name: value})
    line = str(refused.value)
    assert name in line
    assert says in line
    assert "\n" not in line
    assert "s3cret-p4ss" not in line


@pytest.mark.parametrize(
    "url",
    [
        "http://admin:hunter2@anchore-api:8228",
        "https://hunter2@anchore-api",
        "ftp://admin:hunter2@anchore-api",
        "http://admin:hunter2@",
        "http://admin:hunter2@[::1",
        "http://admin:hunter2@anchore:port",
    ],
)
def test_credentials_in_the_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadSetting) as refused:
        config.load({**GOOD, "MOORGATE_ANCHORE_URL": url})
    assert "MOORGATE_ANCHORE_URL" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_no_secret_shows_in_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "nats-password"
    file.write_text("n4ts-p4ss\n")
    loaded = config.load({**GOOD, "MOORGATE_NATS_USER": "scanner", "MOORGATE_NATS_PASSWORD_FILE": str(file)})
    assert loaded.broker.password is not None
    assert loaded.broker.password.reveal() == "n4ts-p4ss"
    for shown in (repr(loaded), str(loaded), f"{loaded.tenants}"):
        assert "s3cret-p4ss" not in shown
        assert "n4ts-p4ss" not in shown


def test_the_password_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from-a-file\n")
    settings = {"MOORGATE_ANCHORE_URL": "https://a", "MOORGATE_ANCHORE_PASSWORD_FILE": str(file)}
    assert config.load(settings).tenants.fixed["default"].anchore.password.reveal() == "from-a-file"
    with pytest.raises(BadSetting, match="keep one"):
        config.load({**GOOD, **settings})


def test_a_trust_file_that_holds_no_certificate_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(BadSetting, match="MOORGATE_ANCHORE_CA_FILE"):
        config.load({**GOOD, "MOORGATE_ANCHORE_CA_FILE": str(file)})
