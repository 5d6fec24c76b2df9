"""What bundles mean to the simulator: gates, triggers, whitelists, mappings and lists of images, without any HTTP."""

from typing import Any

import pytest

from deploy.dev.anchore.catalogue import Content, Vulnerability
from deploy.dev.anchore.evaluation.bundles import evaluate
from deploy.dev.anchore.evaluation.subject import Subject
from tests.support.anchore import bundle, rule, selection

CRITICAL = Vulnerability(id="CVE-2026-1", package="openssl", version="1", severity="Critical", fix="2")
MEDIUM = Vulnerability(id="CVE-2026-4", package="gzip", version="1", severity="Medium")
LOW = Vulnerability(id="CVE-2026-2", package="tar", version="1", severity="Low")
PYTHON = Vulnerability(
    id="CVE-2026-3", package="requests", version="1", severity="High", type="python", path="/requests"
)


def subject(dockerfile: str = "FROM scratch\nUSER 1000\n", *findings: Vulnerability, **more: Any) -> Subject:
    values: dict[str, Any] = {
        "image_id": "i",
        "digest": "sha256:d",
        "fulltag": "registry.example/team/app:1.0",
        "content": Content(),
        "dockerfile": dockerfile,
        "dockerfile_is_actual": False,
        "vulnerabilities": findings,
        "feed_synced_at": 1000.0,
        "now": 1000.0,
    }
    return Subject(**(values | more))


def judged(judging: dict[str, Any], image: Subject) -> tuple[str, list[str]]:
    """The final action, and the trigger ids of all rows."""
    result = evaluate(judging, image, "admin")
    rows = result["result"][image.image_id]["result"]["rows"]
    return result["final_action"], [row[2] if len(row[2]) < 32 else row[4] for row in rows]


PACKAGE = {"package_type": "all"}


@pytest.mark.parametrize(
    ("rules", "image", "expected"),
    [
        ([rule("always", "always")], subject(), ("stop", ["always"])),
        ([rule("always", "always", "WARN")], subject(), ("warn", ["always"])),
        ([], subject(), ("go", [])),
        ([rule("dockerfile", "exposed_ports", ports="22", type="blacklist")], subject("EXPOSE 22\n"), ("stop", ["exposed_ports"])),
        ([rule("dockerfile", "exposed_ports", ports="22", type="blacklist")], subject("EXPOSE 220\n"), ("go", [])),
        ([rule("dockerfile", "exposed_ports", ports="80", type="whitelist")], subject("EXPOSE 80 81/udp\n"), ("stop", ["exposed_ports"])),
        ([rule("dockerfile", "effective_user", users="root", type="blacklist")], subject("FROM x\n"), ("stop", ["effective_user"])),
        ([rule("dockerfile", "effective_user", users="root", type="blacklist")], subject("USER root\nUSER 1\n"), ("go", [])),
        ([rule("dockerfile", "effective_user", users="app", type="whitelist")], subject("USER 1\n"), ("stop", ["effective_user"])),
        ([rule("dockerfile", "instruction", instruction="HEALTHCHECK", check="not_exists")], subject(), ("stop", ["instruction"])),
        ([rule("dockerfile", "instruction", instruction="FROM", check="=", value="scratch")], subject(), ("stop", ["instruction"])),
        ([rule("dockerfile", "instruction", instruction="ADD", check="exists", actual_dockerfile_only="true")], subject("ADD a b"), ("go", [])),
        ([rule("dockerfile", "no_dockerfile_provided")], subject(), ("stop", ["no_dockerfile_provided"])),
        ([rule("vulnerabilities", "package", **PACKAGE, severity="medium")], subject("", CRITICAL, MEDIUM, LOW), ("stop", ["CVE-2026-1+openssl"])),
        ([rule("vulnerabilities", "package", **PACKAGE, severity="low", severity_comparison="=")], subject("", CRITICAL, LOW), ("stop", ["CVE-2026-2+tar"])),
        ([rule("vulnerabilities", "package", **PACKAGE, fix_available="false")], subject("", CRITICAL, LOW), ("stop", ["CVE-2026-2+tar"])),
        ([rule("vulnerabilities", "package", package_type="non-os")], subject("", CRITICAL, PYTHON), ("stop", ["CVE-2026-3+requests"])),
        ([rule("vulnerabilities", "stale_feed_data", max_days_since_sync="2")], subject(now=1000.0 + 3 * 86400), ("stop", ["stale_feed_data"])),
        ([rule("vulnerabilities", "stale_feed_data", max_days_since_sync="2")], subject(now=1000.0 + 86400), ("go", [])),
        ([rule("vulnerabilities", "vulnerability_data_unavailable")], subject(feed_synced_at=None), ("stop", ["vulnerability_data_unavailable"])),
        ([rule("vulnerabilities", "blacklist", vulnerability_ids="CVE-2026-2,CVE-0")], subject("", LOW), ("stop", ["blacklist"])),
        ([rule("malware", "scans")], subject(), ("go", [])),
    ],
)  # fmt: skip
def test_rules_fire(rules: list[dict[str, Any]], image: Subject, expected: tuple[str, list[str]]) -> None:
    assert judged(bundle(*rules), image) == expected


ALWAYS = rule("always", "always")


@pytest.mark.parametrize(
    ("more", "final", "reason"),
    [
        (
            {"mappings": [{**selection(registry="other.example"), "policy_ids": ["p"]}]},
            "go",
            "policy_evaluation",
        ),
        (
            {"mappings": [{**selection(repository="team/*", value="1.*"), "policy_ids": ["p"]}]},
            "stop",
            "policy_evaluation",
        ),
        ({"mappings": [{**selection(value="2.*"), "policy_ids": ["p"]}]}, "go", "policy_evaluation"),
        (
            {"mappings": [{**selection(kind="digest", value="sha256:d"), "policy_id": "p"}]},
            "stop",
            "policy_evaluation",
        ),
        (
            {"mappings": [{**selection(kind="id", value="other"), "policy_id": "p"}]},
            "go",
            "policy_evaluation",
        ),
        ({"whitelisted_images": [selection(repository="team/*")]}, "go", "whitelisted"),
        ({"allowlisted_images": [selection(repository="team/*")]}, "go", "whitelisted"),
        ({"blacklisted_images": [selection(kind="digest", value="sha256:d")]}, "stop", "blacklisted"),
        ({"blacklisted_images": [selection()], "whitelisted_images": [selection()]}, "stop", "blacklisted"),
    ],
)
def test_mappings_and_image_lists(more: dict[str, Any], final: str, reason: str) -> None:
    result = evaluate(bundle(ALWAYS, **more), subject(), "admin")
    assert (result["final_action"], result["final_action_reason"]) == (final, reason)


@pytest.mark.parametrize(
    ("gate", "trigger_id", "final"),
    [
        ("always", "always", "go"),
        ("always", "*", "go"),
        ("dockerfile", "*", "stop"),
        ("always", "CVE-1+x", "stop"),
    ],
)
def test_a_whitelisted_row_counts_as_go(gate: str, trigger_id: str, final: str) -> None:
    items = [{"id": "pardon", "gate": gate, "trigger_id": trigger_id}]
    result = evaluate(bundle(ALWAYS, items=items), subject(), "admin")
    [row] = result["result"]["i"]["result"]["rows"]
    assert (result["final_action"], row[6]) == (final, final)
    pardon = {"matched_rule_id": "pardon", "whitelist_id": "w", "whitelist_name": "pardons"}
    assert row[7] == (pardon if final == "go" else False)
