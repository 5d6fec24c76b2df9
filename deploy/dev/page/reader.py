"""Somebody who may look at the page: a ServiceAccount that may list Audits everywhere, and nothing else."""

from pathlib import Path

from deploy.dev.kubeapi import KubeApi

NAME = "page-reader"
"""Of the ServiceAccount, its ClusterRole and its ClusterRoleBinding."""

_RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def make_reader(kubeconfig: Path, namespace: str) -> None:
    """Make the account, with its right."""
    metadata = {"name": NAME}
    rule = {"apiGroups": ["security.banzaicloud.com"], "resources": ["audits"], "verbs": ["list"]}
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME}
    async with KubeApi(kubeconfig) as api:
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        await api.request("POST", accounts, {"metadata": metadata})
        await api.request("POST", f"{_RBAC}/clusterroles", {"metadata": metadata, "rules": [rule]})
        binding = {"metadata": metadata, "roleRef": role, "subjects": [subject]}
        await api.request("POST", f"{_RBAC}/clusterrolebindings", binding)


def command(namespace: str) -> str:
    """What prints a token of this account."""
    return f"kubectl --namespace {namespace} create token {NAME}"
