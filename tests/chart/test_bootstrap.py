"""The chart's three Jobs as they are rendered: which is a hook and when, what it may do, and that its commands are ones we have."""

from typing import Any

import msgspec
import pytest
import yaml

from deploy.dev.helm import HelmError, Release
from services.cli.__main__ import app
from services.cli.bootstrap.file import BootstrapFile
from shared.settings import KNOWN

ANCHORE = {"url": "http://anchore.test:8228"}
ADMIN = {"bootstrap": {"anchore": {"adminSecret": "admin"}}}
HOOK = "helm.sh/hook"


def rendered(**values: Any) -> list[dict[str, Any]]:
    return Release(values={"anchore": ANCHORE, **values}).template()


def of(objects: list[dict[str, Any]], kind: str, component: str) -> list[dict[str, Any]]:
    return [
        each
        for each in objects
        if each["kind"] == kind
        and each["metadata"].get("labels", {}).get("app.kubernetes.io/component") == component
    ]


def hooks(each: dict[str, Any]) -> set[str]:
    found = each["metadata"].get("annotations", {}).get(HOOK, "")
    return set(found.split(",")) if found else set()


def container(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]["containers"][0]
    return found


def test_secrets_come_first_and_all_they_need_before_them() -> None:
    objects = rendered()
    (job,) = of(objects, "Job", "secrets")
    needed = [
        each for kind in ("ServiceAccount", "Role", "RoleBinding") for each in of(objects, kind, "secrets")
    ]
    assert len(needed) == 3
    assert all(hooks(each) == {"pre-install", "pre-upgrade"} for each in (job, *needed))
    weights = {int(each["metadata"]["annotations"]["helm.sh/hook-weight"]) for each in needed}
    assert max(weights) < int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
    assert not [each for each in objects if each["kind"] == "Secret"], "no template makes secrets"


def test_streams_are_no_hook_since_readiness_waits_for_them() -> None:
    objects = rendered()
    for kind in ("Job", "ServiceAccount", "ConfigMap"):
        (found,) = of(objects, kind, "bootstrap")
        assert hooks(found) == set(), kind


def test_the_registration_is_a_hook_after_everything() -> None:
    (job,) = of(rendered(), "Job", "webhooks")
    assert hooks(job) == {"post-install", "post-upgrade", "post-rollback"}


def test_a_change_makes_another_bootstrap() -> None:
    """A Job cannot be changed, and tools that count no revisions must see that there is something to do."""
    names = {
        of(rendered(**values), "Job", "bootstrap")[0]["metadata"]["name"]
        for values in ({}, ADMIN, {"image": {"tag": "x"}}, {"bootstrap": {"waitFor": "5m"}})
    }
    assert len(names) == 4
    first, again = (of(rendered(), "Job", "bootstrap")[0]["metadata"]["name"] for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    "values", [{}, ADMIN, {"tls": {"issuer": "secret", "existingSecret": "mine"}}], ids=str
)
def test_every_job_runs_a_command_and_settings_that_are_known(values: dict[str, Any]) -> None:
    objects = rendered(**values)
    for component in ("secrets", "bootstrap", "webhooks"):
        (job,) = of(objects, "Job", component)
        main = container(job)
        command, bound, _ = app.parse_args(main["args"], exit_on_error=False, print_error=False)
        assert command is not None
        assert not bound.kwargs.get("dry_run")
        names = {each["name"].removesuffix("_FILE") for each in main["env"]}
        assert names <= {name.removesuffix("_FILE") for name in KNOWN}
        mounted = {each["name"] for each in main["volumeMounts"]}
        assert mounted == {each["name"] for each in job["spec"]["template"]["spec"]["volumes"]}


def test_the_jobs_touch_only_secrets_of_known_names() -> None:
    objects = rendered(**ADMIN)
    rules = [
        rule
        for kind in ("secrets", "bootstrap", "webhooks")
        for role in of(objects, "Role", kind)
        for rule in role["rules"]
    ]
    named = {name for rule in rules for name in rule.get("resourceNames", ())}
    users, ca, tls = (f"moorgate-nats-{name}" for name in ("users", "ca", "tls"))
    assert named == {users, ca, tls, "moorgate-webhook-path", "moorgate-anchore", "moorgate-gateway-tls"}
    assert {verb for rule in rules if "resourceNames" not in rule for verb in rule["verbs"]} == {"create"}


def test_without_anchores_administrator_the_bootstrap_needs_no_cluster() -> None:
    objects = rendered()
    assert of(objects, "Role", "bootstrap") == []
    (job,) = of(objects, "Job", "bootstrap")
    assert job["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    (job,) = of(rendered(**ADMIN), "Job", "bootstrap")
    assert job["spec"]["template"]["spec"]["automountServiceAccountToken"] is True


def test_the_file_is_one_that_the_bootstrap_reads() -> None:
    more = {
        "anchore": {**ANCHORE, "ca": {"configMap": "ca"}},
        "scanner": {"notifications": {"enabled": True, "tlsSecret": "tls", "secret": "hook"}},
        "bootstrap": {
            "anchore": {"adminSecret": "admin", "accountEmail": "moorgate@example.org"},
            "bundles": {"predefined": ["block_root"], "files": {"own.json": "{}"}, "active": "own"},
            "registries": [{"namespace": "team-a", "name": "pull"}, {"namespace": "team-a", "name": "more"}],
        },
    }
    objects = rendered(**more)
    (config,) = of(objects, "ConfigMap", "bootstrap")
    file = msgspec.convert(yaml.safe_load(config["data"]["bootstrap.yaml"]), BootstrapFile)
    assert file.anchore
    assert file.secret
    assert (file.secret.namespace, file.secret.name) == ("moorgate", "moorgate-anchore")
    assert file.bundles.files == ("own.json",)
    assert config["data"]["own.json"] == "{}"
    (job,) = of(objects, "Job", "bootstrap")
    folders = {each["mountPath"] for each in container(job)["volumeMounts"]}
    assert file.notifications
    paths = [file.anchore.password_file, file.anchore.ca_file or "", file.notifications.secret_file]
    assert {path.rpartition("/")[0] for path in paths} <= folders
    roles = {each["metadata"]["namespace"]: each["rules"] for each in of(objects, "Role", "bootstrap")}
    assert roles["team-a"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["pull", "more"], "verbs": ["get"]}
    ]
    (plain,) = of(rendered(), "ConfigMap", "bootstrap")
    assert msgspec.convert(yaml.safe_load(plain["data"]["bootstrap.yaml"]), BootstrapFile).anchore is None


def test_what_is_switched_off_is_not_there() -> None:
    nothing = rendered(
        bootstrap={"enabled": False},
        webhooks={"enabled": False},
        gateway={"pathSecret": False, "allowAnyCaller": True},
        nats={"builtin": {"enabled": False}, "url": "nats://nats.test:4222"},
    )
    assert [each["metadata"]["name"] for each in nothing if each["kind"] == "Job"] == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({**ADMIN, "anchore": {**ANCHORE, "existingSecret": "mine"}}, "leave anchore.existingSecret empty"),
        ({"tls": {"issuer": "cert-manager"}}, "tls.certManager.issuerName"),
        ({"tls": {"issuer": "secret"}}, "tls.existingSecret"),
        ({"page": {"enabled": True}}, "page.certificate.secretName"),
        ({"bootstrap": {"waitFor": "soon"}}, "waitFor"),
        ({"bootstrap": {"adminPassword": "x"}}, "adminPassword"),
    ],
    ids=str,
)
def test_values_that_cannot_work_are_refused_in_words(values: dict[str, Any], words: str) -> None:
    with pytest.raises(HelmError, match=words):
        rendered(**values)
