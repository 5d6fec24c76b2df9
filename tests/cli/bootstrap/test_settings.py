"""The file: what may be missing, and each fault as one line with file and key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.bootstrap import settings
from services.cli.bootstrap.bundles import PREDEFINED
from shared.errors import BadSetting
from shared.settings import Environment

ANCHORE = {"url": "http://anchore:8228", "passwordFile": "password"}
SECRET = {"namespace": "moorgate", "name": "credentials"}


def load(folder: Path, content: Any) -> settings.BootstrapSettings:
    (folder / "password").write_text("foobar\n")
    (folder / "empty").write_text("\n")
    (folder / "broken.json").write_text("{}")
    path = folder / "bootstrap.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return settings.load(Environment({settings.NAME: str(path)}))


def test_an_empty_file_is_streams_only(tmp_path: Path) -> None:
    loaded = load(tmp_path, "")
    assert (loaded.anchore, loaded.bundles, loaded.registries, loaded.wait_for) == (None, (), (), 600)


def test_anchore_alone_uploads_the_five_and_leaves_the_active_one(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"anchore": ANCHORE})
    assert [each.id for each in loaded.bundles] == list(PREDEFINED)
    assert (loaded.active, loaded.secret, loaded.receiver) == (None, None, None)
    assert loaded.known_anchore.username == "admin"
    assert loaded.known_anchore.password.reveal() == "foobar"


def test_some_of_the_five(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, {"anchore": ANCHORE, "bundles": {"predefined": ["deny_all"], "active": "deny_all"}}
    )
    assert ([each.id for each in loaded.bundles], loaded.active) == (["deny_all"], "deny_all")


FAULTS: list[tuple[Any, str]] = [
    ("- a list", "Expected `object`, got `array`"),
    ("a: [", "is no YAML"),
    ({"anchor": ANCHORE}, "unknown field `anchor`"),
    ({"anchore": {**ANCHORE, "password": "p"}}, "unknown field `password` - at `$.anchore`"),
    ({"anchore": {"url": "http://x"}}, "missing required field `passwordFile` - at `$.anchore`"),
    ({"anchore": {**ANCHORE, "url": "x"}}, "anchore.url is 'x'"),
    ({"anchore": {**ANCHORE, "api": "v3"}}, "Invalid enum value 'v3' - at `$.anchore.api`"),
    ({"anchore": {**ANCHORE, "username": "a:b"}}, "anchore.username"),
    ({"anchore": {**ANCHORE, "passwordFile": "gone"}}, "anchore.passwordFile: cannot read"),
    ({"anchore": {**ANCHORE, "passwordFile": "empty"}}, "anchore.passwordFile: "),
    ({"anchore": {**ANCHORE, "caFile": "password"}}, "anchore.caFile: "),
    ({"secret": SECRET}, "secret needs anchore"),
    ({"bundles": {"active": "x"}}, "bundles needs anchore"),
    ({"registries": [SECRET]}, "registries needs anchore"),
    ({"anchore": ANCHORE, "account": {"name": "abc"}}, "account needs secret"),
    ({"anchore": ANCHORE, "user": {"name": "abc"}}, "user needs secret"),
    ({"anchore": ANCHORE, "secret": SECRET, "user": {"name": "a:b"}}, "`$.user.name`"),
    ({"anchore": ANCHORE, "secret": SECRET, "account": {"name": "a/b"}}, "`$.account.name`"),
    ({"anchore": ANCHORE, "secret": SECRET, "user": {"name": "a?b"}}, "`$.user.name`"),
    ({"anchore": ANCHORE, "secret": {"namespace": "../x", "name": "a"}}, "`$.secret.namespace`"),
    ({"anchore": ANCHORE, "registries": [{"namespace": "x", "name": "A b"}]}, "`$.registries[0].name`"),
    ({"anchore": ANCHORE, "bundles": {"predefined": ["allow"]}}, "bundles.predefined has 'allow'"),
    ({"anchore": ANCHORE, "bundles": {"predefined": "some"}}, "bundles.predefined"),
    ({"anchore": ANCHORE, "bundles": {"files": ["gone.json"]}}, "bundles.files: cannot read"),
    ({"anchore": ANCHORE, "bundles": {"files": ["broken.json"]}}, "is no policy bundle"),
    ({"anchore": ANCHORE, "bundles": {"predefined": ["deny_all", "deny_all"]}}, "two have the id 'deny_all'"),
    ({"anchore": ANCHORE, "waitFor": "soon"}, "waitFor is 'soon'"),
    (
        {"anchore": ANCHORE, "notifications": {"url": "http://a:b@c", "secretFile": "password"}},
        "notifications.url",
    ),
    (
        {"anchore": ANCHORE, "notifications": {"url": "http://c", "secretFile": "gone"}},
        "notifications.secretFile",
    ),
]


@pytest.mark.parametrize(("content", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_faults(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load(tmp_path, content)
    line = str(caught.value)
    assert said in line
    assert line.startswith(f"MOORGATE_BOOTSTRAP_FILE: {tmp_path / 'bootstrap.yaml'}")
    assert "foobar" not in line


def test_the_file_must_be_named() -> None:
    with pytest.raises(BadSetting, match="MOORGATE_BOOTSTRAP_FILE is not set"):
        settings.load(Environment({}))


@pytest.mark.parametrize("section", ["secret", "registries"])
def test_without_a_cluster_there_are_no_secrets(section: str, tmp_path: Path) -> None:
    load(tmp_path, {"anchore": ANCHORE, "secret": SECRET, "registries": [SECRET]})
    content = {"anchore": ANCHORE, section: SECRET if section == "secret" else [SECRET]}
    path = tmp_path / "bootstrap.yaml"
    path.write_text(yaml.safe_dump(content))
    variables = {settings.NAME: str(path), "MOORGATE_CLUSTER": "none"}
    with pytest.raises(
        BadSetting, match=f"bootstrap.yaml: {section} needs Secrets of a cluster, and MOORGATE"
    ):
        settings.load(Environment(variables))
    path.write_text(yaml.safe_dump({"anchore": ANCHORE}))
    assert settings.load(Environment(variables)).secret is None
