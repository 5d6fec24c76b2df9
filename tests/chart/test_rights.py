"""RBAC as rendered: the services' rights held to a table, and no token for who has none.

tests/chart/test_install.py shows by the API server's audit log that the services use each of them and want no other.
"""

import pytest

from tests.support import chart
from tests.support.chart import Json, of_kind, pod_templates, rendered

each_set = pytest.mark.parametrize("values", chart.SETS)

RIGHTS = {
    "gateway": {
        ("namespaced", "coordination.k8s.io", "leases", "", "create"),
        ("namespaced", "coordination.k8s.io", "leases", "moorgate-gateway", "get patch"),
        ("cluster", "", "namespaces", "", "get list watch"),
        ("cluster", "security.banzaicloud.com", "imagepolicies", "", "list watch"),
        ("cluster", "security.banzaicloud.com", "whitelistitems", "", "list watch"),
        ("cluster", "security.banzaicloud.com", "imagepolicies/status", "", "patch"),
        ("cluster", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", "list"),
    },
    "gateway's own issuer": {
        ("namespaced", "", "secrets", "", "create"),
        ("namespaced", "", "secrets", "moorgate-gateway-tls", "get patch"),
        (
            "cluster",
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations",
            "moorgate-pods",
            "patch",
        ),
        (
            "cluster",
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations",
            "moorgate-workloads",
            "patch",
        ),
    },
    "audit-writer": {
        ("namespaced", "coordination.k8s.io", "leases", "", "create"),
        ("namespaced", "coordination.k8s.io", "leases", "moorgate-audit-writer", "get patch"),
        ("cluster", "security.banzaicloud.com", "audits", "", "create delete get list patch watch"),
        ("cluster", "security.banzaicloud.com", "imagepolicies", "", "list watch"),
        ("cluster", "security.banzaicloud.com", "whitelistitems", "", "list watch"),
        ("cluster", "", "pods", "", "get list"),
        ("cluster", "", "namespaces", "", "list"),
        ("cluster", "", "nodes", "", "get"),
        ("cluster", "", "replicationcontrollers", "", "get"),
        *(
            ("cluster", "apps", f"{kind}s", "", "get")
            for kind in "daemonset deployment replicaset statefulset".split()
        ),
        *(("cluster", "batch", f"{kind}s", "", "get") for kind in "cronjob job".split()),
        ("cluster", "events.k8s.io", "events", "", "create"),
    },
    "audit-writer's page": {
        ("cluster", "authentication.k8s.io", "tokenreviews", "", "create"),
        ("cluster", "authorization.k8s.io", "subjectaccessreviews", "", "create"),
    },
    "audit-writer's reports": {("cluster", "openreports.io", "reports", "", "create patch")},
    "audit-writer's rollouts": {("cluster", "argoproj.io", "rollouts", "", "get")},
}
"""What the code asks of the API server: whoever adds a right here shows the line that needs it."""


def _rights(objects: tuple[Json, ...], account: str) -> set[tuple[str, str, str, str, str]]:
    """What a ServiceAccount is given."""
    return {
        (
            "namespaced" if role["kind"] == "Role" else "cluster",
            group,
            resource,
            name,
            " ".join(sorted(rule["verbs"])),
        )
        for role in _roles(objects, account)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


def _roles(objects: tuple[Json, ...], account: str) -> list[Json]:
    return [
        chart.named(objects, each["roleRef"]["kind"], each["roleRef"]["name"])
        for each in of_kind(objects, "RoleBinding", "ClusterRoleBinding")
        if account in {subject["name"] for subject in each["subjects"]}
    ]


def test_rights_are_exactly_those_that_the_code_uses() -> None:
    objects = rendered("minimal")
    assert _rights(objects, "moorgate-gateway") == RIGHTS["gateway"] | RIGHTS["gateway's own issuer"]
    assert _rights(objects, "moorgate-audit-writer") == RIGHTS["audit-writer"]
    assert _rights(objects, "moorgate-scanner") == _rights(objects, "moorgate-nats") == set()


def test_rights_come_with_the_feature_that_needs_them() -> None:
    assert _rights(rendered("tenants"), "moorgate-gateway") == RIGHTS["gateway"]
    extra = (
        RIGHTS["audit-writer's reports"] | RIGHTS["audit-writer's rollouts"] | RIGHTS["audit-writer's page"]
    )
    assert _rights(rendered("everything"), "moorgate-audit-writer") == RIGHTS["audit-writer"] | extra


@each_set
def test_no_right_is_wider_than_it_is_written(values: str) -> None:
    for role in of_kind(rendered(values), "Role", "ClusterRole"):
        for rule in role.get("rules") or []:
            assert "*" not in {*rule["verbs"], *rule.get("apiGroups", []), *rule.get("resources", [])}, role[
                "metadata"
            ]


@each_set
def test_who_has_no_rights_has_no_token(values: str) -> None:
    objects = rendered(values)
    for template in pod_templates(objects):
        has_rights = bool(_rights(objects, template.spec["serviceAccountName"]))
        assert template.spec["automountServiceAccountToken"] is has_rights, template.name
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, account["metadata"]["name"]
