"""What Helm prints at the end: what is left out, what is still to do, and what had better not stay as it is."""

from typing import Any

import pytest

from deploy.dev.helm import Release

SAFE: dict[str, Any] = {"anchore": {"url": "http://api.anchore.svc:8228", "existingSecret": "account"}}


def notes(**values: Any) -> str:
    """Rendered alone, without a cluster."""
    return Release(values={**SAFE, **values}).install("--dry-run=client").partition("NOTES:")[2]


def test_what_is_not_looked_at_is_listed() -> None:
    text = notes(webhooks={"excludedNamespaces": ["storage"]})
    assert "Pods in: moorgate, kube-system, kube-node-lease, kube-public, anchore, storage." in text
    assert "WARNING" not in text
    assert "leaves the custom resource definitions" in text
    selector = {"matchExpressions": [{"key": "unchecked", "operator": "DoesNotExist"}]}
    assert "webhooks.namespaceSelector" in notes(webhooks={"namespaceSelector": selector})


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"webhooks": {"enabled": False}}, "nothing is judged"),
        ({"webhooks": {"failurePolicy": "Ignore"}}, "every Pod is admitted unseen"),
        ({"gateway": {"replicas": 1}}, "no Pod is admitted"),
        ({"gateway": {"autoscaling": {"enabled": True, "minReplicas": 1}}}, "no Pod is admitted"),
        ({"crds": {"keep": False}}, "deletes every WhiteListItem, ImagePolicy and Audit"),
        ({"gateway": {"allowAnyCaller": True}}, "forge records"),
        ({"nats": {"builtin": {"persistence": {"enabled": False}}}}, "lost with the Pods of NATS"),
        ({"anchore": {**SAFE["anchore"], "insecureSkipVerify": True}}, "forge verdicts"),
        (
            {"anchore": {"url": "http://anchore:8228"}},
            "TO DO: the scanners wait for the Secret moorgate-anchore",
        ),
    ],
    ids=str,
)
def test_what_had_better_not_stay_is_said(values: dict[str, Any], warning: str) -> None:
    text = notes(**values)
    assert warning in text
    assert ("WARNING" in text) is ("TO DO" not in text)
