"""The operator's file: what is read from it, and the one line for everything that is wrong."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from services.audit_writer import config
from services.audit_writer.notifications import notify_file
from services.audit_writer.notifications.targets import Kind
from shared.contracts import Result
from shared.errors import BadSetting
from tests.audit_writer.notifications.flips import flip, target

SECRET_URL = "https://hooks.example/services/T0/B0/hunter2"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the file, and others beside it; gives the path."""

    def write(text: str, **others: str) -> Path:
        for name, content in others.items():
            (tmp_path / name).write_text(content)
        path = tmp_path / "notify.yaml"
        path.write_text(text)
        return path

    return write


def one(entry: str) -> str:
    return f"targets:\n  - {{{entry}}}\n"


def test_no_file_means_nobody_to_tell() -> None:
    assert notify_file.load(None) == ()
    assert config.load({}).notify == ()


def test_a_target_has_defaults(write: Write) -> None:
    path = write(one("name: ops-slack, type: slack, urlFile: hook"), hook=f"{SECRET_URL}\n")
    [found] = config.load({"MOORGATE_NOTIFY_FILE": str(path)}).notify
    assert (found.name, found.kind, found.url.reveal()) == ("ops-slack", Kind.SLACK, SECRET_URL)
    assert (found.on, found.give_up_after, found.namespaces) == ((Result.FAIL, Result.PASS), 86400.0, ())
    assert "hunter2" not in repr(found)


def test_everything_can_be_said(write: Write) -> None:
    text = """
cluster: prod-eu
targets:
  - name: siem
    type: webhook
    url: https://siem.example/in?x=1
    secretFile: key
    headersFile: headers
    bearerTokenFile: token
    giveUpAfter: 2h30m
    on: [fail]
    namespaces: [shop, "team-*"]
    tenants: [team-a]
  - name: alerts
    type: alertmanager
    url: http://alertmanager:9093
    labels: {team: 7}
    firesFor: 48h
"""
    siem, alerts = notify_file.load(
        write(text, key="s3cret\n", headers="X-Key: a b\nX-Other: c\n", token="t")
    )
    assert siem.secret
    assert siem.secret.reveal() == "s3cret"
    assert {name: value.reveal() for name, value in siem.headers.items()} == {"X-Key": "a b", "X-Other": "c"}
    assert (siem.give_up_after, siem.on, siem.namespaces) == (9000.0, (Result.FAIL,), ("shop", "team-*"))
    assert (siem.tenants, siem.cluster) == (("team-a",), "prod-eu")
    assert (alerts.labels, alerts.fires_for, alerts.on) == (
        {"team": "7"},
        172800.0,
        (Result.FAIL, Result.PASS),
    )


URL = "name: a, type: webhook, url: 'http://x'"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "notify.yaml is empty"),
        ("x", "Expected `object`, got `str`"),
        ("targets: 7", "targets: Expected `array`, got `str`"),
        ("targets: [7]", "targets[0]: Expected `object`, got `str`"),
        ("target: []", "Object contains unknown field `target`"),
        ("cluster: 'a b'\ntargets: []", "cluster: Expected `str` matching regex"),
        (f"targets:\n  - url: {SECRET_URL}: x", "line 2: no YAML"),
        ("targets: \x00", "no YAML"),
        (one("name: a, url: 'http://x'"), "target a: Object missing required field `type`"),
        (one("name: a, type: teams, url: 'http://x'"), "target a: type: Invalid value 'teams'"),
        (one("type: slack, url: 'http://x'"), "target 1: Object missing required field `name`"),
        (one("name: A b, type: slack, url: 'http://x'"), "target 1: name: Expected `str` matching"),
        (one(f"{URL}, secret: x"), "target a: Object contains unknown field `secret`"),
        (one("name: a, type: slack, url: 'http://x', secretFile: x"), "unknown field `secretFile`"),
        (one("name: a, type: alertmanager, url: 'http://x', on: [fail]"), "unknown field `on`"),
        (f"{one(URL)}  - {{{URL}}}", "target a: name: another target has it already"),
        (one("name: a, type: slack"), "target a: url: give url or urlFile, and not both"),
        (one(f"{URL}, urlFile: x"), "target a: url: give url or urlFile, and not both"),
        (one("name: a, type: slack, urlFile: gone"), "target a: urlFile: cannot read"),
        (one("name: a, type: slack, urlFile: empty"), "empty is empty"),
        (one("name: a, type: slack, urlFile: binary"), "urlFile: cannot read"),
        (one("name: a, type: slack, url: 'hooks.example/x'"), "target a: url: it must be http(s)://host"),
        (one("name: a, type: slack, url: 'http://[x/hunter2'"), "target a: url: it must be http(s)://host"),
        (one("name: a, type: slack, url: 'http://x/a b'"), "target a: url: it must be http(s)://host"),
        (one("name: a, type: slack, url: 'http://u:hunter2@x/'"), "target a: url: it holds credentials"),
        (
            one(f"{URL}, giveUpAfter: 1s"),
            "target a: giveUpAfter: it must be a duration such as 24h, at least 60s",
        ),
        (one(f"{URL}, giveUpAfter: 1000h"), "at most 144h"),
        (one(f"{URL}, giveUpAfter: soon"), "target a: giveUpAfter: it must be a duration"),
        (one(f"{URL}, on: []"), "target a: on: it must name fail, pass or both"),
        (one(f"{URL}, on: [fails]"), "target a: on[0]: Invalid enum value 'fails'"),
        (one(f"{URL}, namespaces: ['a b']"), "target a: namespaces: 'a b' is no glob"),
        (one(f"{URL}, namespaces: ['a[b']"), "target a: namespaces: 'a[b' is no glob"),
        (one(f"{URL}, tenants: [A]"), "target a: tenants[0]: Expected `str` matching"),
        (one(f"{URL}, caFile: empty"), "target a: caFile"),
        (one(f"{URL}, caFile: token"), "holds no certificates (PEM)"),
        (one(f"{URL}, headersFile: token"), "target a: headersFile: line 1 must be `Name: value`"),
        (one(f"{URL}, headersFile: ours"), "target a: headersFile: line 1: Content-Type is set already"),
        (one(f"{URL}, headersFile: twice"), "target a: headersFile: line 2: x-a is set already"),
        (
            one(f"{URL}, headersFile: auth, bearerTokenFile: token"),
            "target a: bearerTokenFile: headersFile has",
        ),
        (one(f"{URL}, bearerTokenFile: gone"), "target a: bearerTokenFile: cannot read"),
        (one(f"{URL}, bearerTokenFile: lines"), "must hold one token"),
        (
            one("name: a, type: alertmanager, url: 'http://x', labels: {image: x}"),
            "target a: labels: 'image'",
        ),
        (one("name: a, type: alertmanager, url: 'http://x', labels: {a-b: x}"), "target a: labels: 'a-b'"),
        (one("name: a, type: alertmanager, url: 'http://x', firesFor: 1s"), "target a: firesFor: it must be"),
    ],
)
def test_what_is_wrong_is_one_line_without_secrets(write: Write, text: str, line: str) -> None:
    others = {
        "empty": "",
        "token": "hunter2",
        "lines": "hunter2\nhunter2",
        "ours": "Content-Type: hunter2",
        "twice": "X-A: hunter2\nx-a: hunter2",
        "auth": "Authorization: hunter2",
    }
    path = write(text, **others)
    (path.parent / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadSetting) as caught:
        notify_file.load(path)
    shown = str(caught.value)
    assert shown.startswith(f"MOORGATE_NOTIFY_FILE: {path}: ")
    assert line in shown
    assert "hunter2" not in shown
    assert "\n" not in shown


def test_a_file_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"^MOORGATE_NOTIFY_FILE: cannot read"):
        config.load({"MOORGATE_NOTIFY_FILE": str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("wish", "is_wanted"),
    [
        ({}, True),
        ({"on": (Result.PASS,)}, False),
        ({"namespaces": ("sh*",)}, True),
        ({"namespaces": ("team-*", "shop")}, True),
        ({"namespaces": ("sho",)}, False),
        ({"tenants": ("default",)}, True),
        ({"tenants": ("team-a",)}, False),
    ],
)
def test_a_target_hears_of_what_it_wants(wish: dict[str, object], *, is_wanted: bool) -> None:
    assert msgspec.structs.replace(target(), **wish).wants(flip()) is is_wanted
