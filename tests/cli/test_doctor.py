"""`moorgate doctor`: each misconfiguration is found, said in a line, and mended by what the line says."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from services.cli.doctor import nats_checks, registration, rules
from services.cli.doctor.findings import Finding, Severity
from services.cli.doctor.nats_checks import Greeting
from services.cli.doctor.registration import Configuration
from shared import streams
from shared.authority import make_authority, pem
from shared.contracts import Mode, TenantRecord
from shared.policies import LabelSelector, PolicySpec, compile_policy
from tests.support.api import image_policy, only_in
from tests.support.builders import whitelist_item
from tests.support.command_line import CommandLine
from tests.support.road import WatchedRoad

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACES: Mapping[str, Mapping[str, str]] = {
    name: {"kubernetes.io/metadata.name": name} for name in ("moorgate", "kube-system", "shop")
}
EXCLUDED = {
    "matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["moorgate", "kube-system"]}
    ]
}
RULES = [
    {"resources": ["pods"], "operations": ["CREATE", "UPDATE"]},
    {"resources": ["pods/ephemeralcontainers"], "operations": ["UPDATE"]},
]


def configuration(
    name: str = "moorgate-pods", *, valid: timedelta = timedelta(days=90), **changes: Any
) -> Configuration:
    """As the chart registers it, but for `changes` of its webhook."""
    client = {
        "service": {"namespace": "moorgate", "name": "moorgate-gateway", "path": "/imagecheck"},
        "caBundle": _bundle(valid),
    }
    webhook = {
        "name": "pods.security.banzaicloud.com",
        "clientConfig": client,
        "failurePolicy": "Fail",
        "namespaceSelector": EXCLUDED,
        "rules": RULES,
        **changes,
    }
    content = {"metadata": {"name": name}, "webhooks": [webhook]}
    return msgspec.json.decode(json.dumps(content), type=Configuration)


def registered(*found: Configuration) -> list[Finding]:
    return registration.findings(found, NAMESPACES, "moorgate", NOW)


def test_what_the_chart_registers_is_well() -> None:
    assert registered(configuration()) == []


@pytest.mark.parametrize(
    ("changes", "severity", "words"),
    [
        ({"namespaceSelector": {}}, Severity.ERROR, "fails closed in kube-system, moorgate"),
        ({"failurePolicy": "Ignore"}, Severity.WARNING, "Pods are admitted unseen"),
        ({"valid": timedelta(days=3)}, Severity.WARNING, "expires on 2026-01-04"),
        ({"valid": timedelta(days=-3)}, Severity.ERROR, "every Pod it is asked about is refused"),
        ({"rules": RULES[:1]}, Severity.WARNING, "UPDATE of pods/ephemeralcontainers"),
        ({"timeoutSeconds": 2}, Severity.WARNING, "timeoutSeconds is 2"),
        ({"rules": [{"resources": ["deployments"], "operations": ["*"]}]}, Severity.ERROR, "admitted unseen"),
    ],
)
def test_a_bad_registration_is_told(changes: dict[str, Any], severity: Severity, words: str) -> None:
    [found] = registered(configuration(**changes))
    assert (found.severity, words in found.what) == (severity, True), found


def test_nothing_registered_is_told() -> None:
    [found] = registered()
    assert (found.severity, "admitted unseen" in found.what) == (Severity.ERROR, True)


def test_a_second_installation_is_told() -> None:
    other = {
        "service": {"namespace": "old", "name": "validator", "path": "/imagecheck"},
        "caBundle": _bundle(),
    }
    [found] = registered(configuration(), configuration("old", clientConfig=other))
    assert "two installations" in found.what
    assert "moorgate/moorgate-gateway, old/validator" in found.what


def policy(name: str, **spec: Any) -> Any:
    return compile_policy(name, PolicySpec(**spec))


def judged(*found: Any, tenants: Mapping[str, TenantRecord] | None = None) -> list[str]:
    record = TenantRecord(tenant="default", active_bundle_id="b", bundles={"b": "1"}, read_at=NOW)
    known = {"default": record} if tenants is None else tenants
    return [each.what for each in rules.of_policies(found, NAMESPACES, known.get)]


def test_good_policies_are_well() -> None:
    shop = LabelSelector(match_labels={"kubernetes.io/metadata.name": "shop"})
    assert judged(policy("shop", namespace_selector=shop, policy_bundle="b"), policy("rest")) == []


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        ([policy("a", policy_bundle="gone")], "no policy bundle 'gone'"),
        ([policy("a", tenant="nobody")], "no scanner serves tenant 'nobody'"),
        ([policy("a", images=("no glob",))], "is no glob"),
        ([policy("a"), policy("b", images=("*",))], "b is never asked: a comes before it"),
        ([policy("a", namespace_selector=LabelSelector(match_labels={"x": "y"}))], "covers no namespace"),
        ([policy("a", mode=Mode.OFF)], "switches the gate off"),
    ],
)
def test_a_bad_policy_is_told(policies: list[Any], words: str) -> None:
    [found] = judged(*policies)
    assert words in found


def test_of_tenants_nothing_is_said_that_is_not_known() -> None:
    assert list(rules.of_policies([policy("a", policy_bundle="gone")], NAMESPACES, None)) == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"regexp": ".*"}, "lets every release of the cluster through"),
        ({"regexp": "("}, "none of RE2's"),
        ({"expires_at": NOW - timedelta(days=1)}, "has expired"),
        ({"regexp": ".*", "namespaces": ("shop",)}, ""),
        ({"regexp": "web-.*"}, ""),
        ({}, ""),
    ],
)
def test_a_bad_whitelist_item_is_told(spec: dict[str, Any], words: str) -> None:
    found = [each.what for each in rules.of_whitelist([whitelist_item("web", **spec)], NOW)]
    assert len(found) == bool(words)
    assert all(words in each for each in found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"auth_required": False}, ["asks nobody who he is"]),
        ({"tls_required": False}, ["plain text"]),
        ({"version": "2.10.27"}, ["verdicts need 2.11"]),
        ({"version": "2.14.0-beta.1"}, []),
        ({"jetstream": False}, ["without JetStream"]),
    ],
)
def test_a_server_that_is_open_or_old_is_told(changes: dict[str, Any], words: list[str]) -> None:
    good = Greeting(version="2.15.1", auth_required=True, tls_required=True, jetstream=True)
    found = [each.what for each in nats_checks.of_greeting(msgspec.structs.replace(good, **changes))]
    assert len(found) == len(words)
    assert all(word in each for word, each in zip(words, found, strict=True))


def test_a_stream_that_somebody_changed_is_told() -> None:
    wanted, changed = streams.stream_configs(1)[1], streams.stream_configs(1)[1]
    assert list(nats_checks.of_stream(wanted, changed, is_clustered=False)) == []
    changed.max_age = 60.0
    [found] = nats_checks.of_stream(wanted, changed, is_clustered=False)
    assert "max_age is 60.0 instead of 604800.0" in found.what
    [found] = nats_checks.of_stream(wanted, wanted, is_clustered=True)
    assert "one copy" in found.what


async def findings(moorgate: CommandLine, *flags: str) -> tuple[int, list[dict[str, str]]]:
    answer = await moorgate("doctor", "-o", "json", *flags)
    assert answer.stderr == ""
    return answer.code, answer.json()


@pytest.mark.cluster
async def test_a_road_that_is_well_has_nothing_but_what_it_is(
    road: WatchedRoad, moorgate: CommandLine
) -> None:
    """Its services are processes, not Deployments; its policies and whitelist items are those of other tests."""
    code, found = await findings(moorgate)
    assert code == 1
    told = [each for each in found if each["check"] not in ("policies", "whitelist", "registration")]
    assert [each["check"] for each in told] == ["deployments"], told
    assert not [each for each in found if each["what"].startswith(f"{road.name}-")]
    shown = await moorgate("doctor")
    assert "RISKY  no Deployment of Moorgate is in the namespace" in shown.stdout


@pytest.mark.cluster
async def test_a_policy_and_an_open_nats_are_found(
    road: WatchedRoad, moorgate: CommandLine, tmp_path: Path
) -> None:
    name = f"{road.name}-doctor"
    path = "/apis/security.banzaicloud.com/v1alpha1/imagepolicies"
    async with road.api() as api:
        await api.ok(
            "POST", path, image_policy(name, namespaceSelector=only_in(nowhere="yes"), policyBundle="gone")
        )
        try:
            _, found = await findings(moorgate)
        finally:
            await api.ok("DELETE", f"{path}/{name}")
    [told] = [each for each in found if name in each["what"]]
    assert (told["severity"], "no policy bundle 'gone'" in told["what"]) == ("error", True)
    async with NatsServer(folder=tmp_path) as server:
        bare = {key: value for key, value in moorgate.environment.items() if "NATS" not in key}
        code, found = await findings(CommandLine({**bare, "MOORGATE_NATS_URL": server.url}))
    what = " ".join(each["what"] for each in found)
    assert code == 1
    for words in ("asks nobody who he is", "plain text", "MOORGATE_SCANS is missing"):
        assert words in what


@pytest.mark.cluster
async def test_what_cannot_be_seen_is_said_and_hides_nothing(
    road: WatchedRoad, moorgate: CommandLine
) -> None:
    _, found = await findings(moorgate.given(KUBECONFIG=str(road.plane.kubeconfig("developer"))))
    unseen = {each["check"] for each in found if each["severity"] == "unknown"}
    assert "registration" in unseen
    _, found = await findings(moorgate, "--nats-url", f"nats://127.0.0.1:{free_port()}")
    assert "nats" in {each["check"] for each in found if each["severity"] == "unknown"}
    assert "deployments" in {each["check"] for each in found}
    answer = await moorgate("doctor", "--namespace", "../x")
    assert (answer.code, answer.stdout) == (2, "")
    assert "--namespace" in answer.trouble


def _bundle(valid: timedelta = timedelta(days=90)) -> str:
    authority = make_authority(NOW - timedelta(days=30), valid + timedelta(days=30)).certificate
    return base64.b64encode(pem([authority])).decode()
