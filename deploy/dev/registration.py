"""The two webhook configurations, as the embedded stack registers them.

One for Pods, failing closed; one for what makes Pods, which only warns and must never hold up a rollout.
Reached by URL, because cluster addresses lead nowhere here; which namespaces they cover is the caller's.
"""

import base64
from pathlib import Path
from typing import Any

NEVER = ("kube-system", "kube-node-lease", "kube-public")
"""Namespaces no admission may hold up: what the cluster itself needs to start."""

EVERYWHERE: dict[str, Any] = {
    "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": list(NEVER)}]
}

_WORKLOADS = (
    ("apps", ["deployments", "statefulsets", "daemonsets", "replicasets"]),
    ("batch", ["jobs", "cronjobs"]),
)


def webhook_configurations(
    name: str, url: str, ca: Path, namespaces: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Both, by `name`; `namespaces` is a label selector."""
    client = {"url": url, "caBundle": base64.b64encode(ca.read_bytes()).decode()}
    selector = namespaces or EVERYWHERE
    pods = [
        _rule("", ["pods"], ["CREATE", "UPDATE"]),
        _rule("", ["pods/ephemeralcontainers"], ["UPDATE"]),
    ]
    workloads = [_rule(group, resources, ["CREATE", "UPDATE"]) for group, resources in _WORKLOADS]
    return [
        _configuration(f"{name}-pods", pods, client, selector, policy="Fail", timeout=10),
        _configuration(f"{name}-workloads", workloads, client, selector, policy="Ignore", timeout=2),
    ]


def _rule(group: str, resources: list[str], operations: list[str]) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "resources": resources,
        "operations": operations,
        "scope": "Namespaced",
    }


def _configuration(
    name: str,
    rules: list[dict[str, Any]],
    client: dict[str, str],
    selector: dict[str, Any],
    *,
    policy: str,
    timeout: int,
) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "moorgate"}},
        "webhooks": [
            {
                "name": f"{name}.moorgate.test",
                "clientConfig": client,
                "rules": rules,
                "failurePolicy": policy,
                "timeoutSeconds": timeout,
                "sideEffects": "NoneOnDryRun",
                "admissionReviewVersions": ["v1"],
                "namespaceSelector": selector,
            }
        ],
    }
