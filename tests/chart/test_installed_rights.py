"""What is granted beside what was used: the comparison itself, with a verb too few and a verb too many."""

import json
from typing import Any

from tests.chart.installed_rights import calls, complaints, granted


def role(name: str, *rules: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    kind = "Role" if namespace else "ClusterRole"
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace}, "rules": list(rules)}


def binding(of: dict[str, Any], account: str = "gateway", namespace: str = "moorgate") -> dict[str, Any]:
    return {
        "kind": f"{of['kind']}Binding",
        "metadata": {"name": "b", "namespace": of["metadata"]["namespace"]},
        "roleRef": {"kind": of["kind"], "name": of["metadata"]["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def event(verb: str, resource: str, *, code: int = 200, decision: str = "allow", **about: str) -> bytes:
    """A line of the audit log."""
    return json.dumps(
        {
            "user": {"username": "system:serviceaccount:moorgate:gateway"},
            "verb": verb,
            "objectRef": {"resource": resource, **about},
            "responseStatus": {"code": code, "message": "no right" if code == 403 else ""},
            "annotations": {"authorization.k8s.io/decision": decision},
        }
    ).encode()


READER = role("reader", {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]})


def test_what_is_granted_and_used_is_no_matter() -> None:
    rights = granted([binding(READER)], [READER], "moorgate")

    assert complaints(rights, calls([event("get", "pods"), event("list", "pods")])) == []


def test_a_verb_too_many_is_named_with_its_rule() -> None:
    rights = granted([binding(READER)], [READER], "moorgate")

    assert complaints(rights, calls([event("get", "pods")])) == [
        "unused    gateway: list pods (ClusterRole reader)"
    ]


def test_a_verb_too_few_is_named_with_the_api_servers_reason() -> None:
    rights = granted([binding(READER)], [READER], "moorgate")
    log = [event("get", "pods"), event("list", "pods"), event("watch", "pods", code=403, decision="forbid")]

    assert complaints(rights, calls(log)) == ["refused   gateway: watch pods: no right"]


def test_what_is_not_allowed_is_no_use_of_a_right() -> None:
    rights = granted([binding(READER)], [READER], "moorgate")
    log = [event("get", "pods"), event("list", "pods", code=403, decision="forbid")]

    assert len(complaints(rights, calls(log))) == 2


def test_a_right_to_one_name_in_one_namespace_is_used_only_there() -> None:
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["one", "two"]}
    own = role("own", rule, namespace="moorgate")
    rights = granted([binding(own)], [own], "moorgate")
    log = [
        event("get", "secrets", name="one", namespace="moorgate"),
        event("get", "secrets", name="two", namespace="elsewhere"),
    ]

    assert complaints(rights, calls(log)) == ["unused    gateway: get secrets two in moorgate (Role own)"]


def test_a_subresource_is_a_right_of_its_own() -> None:
    rule = {"apiGroups": ["x.y"], "resources": ["things/status"], "verbs": ["patch"]}
    status = role("status", rule)
    rights = granted([binding(status)], [status], "moorgate")

    used = event("patch", "things", subresource="status", apiGroup="x.y")
    other = event("patch", "things", apiGroup="x.y")

    assert complaints(rights, calls([used])) == []
    assert len(complaints(rights, calls([other]))) == 1


def test_an_apply_that_makes_the_object_uses_create_too() -> None:
    rule = {"apiGroups": ["x.y"], "resources": ["things"], "verbs": ["create", "patch"]}
    writer = role("writer", rule)
    rights = granted([binding(writer)], [writer], "moorgate")

    assert complaints(rights, calls([event("patch", "things", code=201, apiGroup="x.y")])) == []


def test_a_wildcard_is_too_wide_whatever_was_done() -> None:
    wide = role("wide", {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})

    assert complaints(granted([binding(wide)], [wide], "moorgate"), []) == [
        "too wide  gateway: * *.* (ClusterRole wide)"
    ]


def test_a_right_given_twice_is_one_too_many() -> None:
    again = role("again", {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]})
    rights = granted([binding(READER), binding(again)], [READER, again], "moorgate")
    log = [event("get", "pods"), event("list", "pods")]

    assert complaints(rights, calls(log)) == ["twice     gateway: get pods"]


def test_accounts_of_other_namespaces_are_not_looked_at() -> None:
    assert granted([binding(READER, namespace="other")], [READER], "moorgate") == []
