"""The webhook configurations on the API server: read, applied, listed, removed.

RBAC: `get`, `patch` of the configurations by name and `create` (a server-side apply of one that is not there yet), `get` of the
ClusterRole that owns them, `get` of the Secrets named; `list` and `delete` only for whoever uses `status` and `remove`.
What is applied carries the version that was read, so that nobody's newer `caBundle` is written over.
"""

import base64
import binascii
from typing import Any

import msgspec

from services.cli.webhooks_file import API_VERSION
from shared.cluster import APPLY, Cluster, object_path
from shared.objects import ObjectMeta

PATH = f"/apis/{API_VERSION}/validatingwebhookconfigurations"
MANAGER = "moorgate-webhooks"
PART_OF = "app.kubernetes.io/part-of=moorgate"
_ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"


class _Client(msgspec.Struct, frozen=True, rename="camel"):
    ca_bundle: bytes = b""


class LiveWebhook(msgspec.Struct, frozen=True, rename="camel"):
    """One webhook as it is registered."""

    name: str
    client_config: _Client = _Client()
    failure_policy: str = "Fail"


class LiveConfiguration(msgspec.Struct, frozen=True):
    """A configuration as it is registered."""

    metadata: ObjectMeta
    webhooks: list[LiveWebhook] = []

    @property
    def bundles(self) -> dict[str, bytes]:
        """Whom each webhook trusts, by its name."""
        return {each.name: each.client_config.ca_bundle for each in self.webhooks}


class _List(msgspec.Struct, frozen=True):
    items: list[LiveConfiguration]


class _Role(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


class _Secret(msgspec.Struct, frozen=True):
    data: dict[str, str] = {}


_LIVE = msgspec.json.Decoder(LiveConfiguration)
_LIST = msgspec.json.Decoder(_List)
_ROLE = msgspec.json.Decoder(_Role)
_SECRET = msgspec.json.Decoder(_Secret)


async def read(cluster: Cluster, name: str) -> LiveConfiguration | None:
    """The configuration, or None. Raises `Unavailable`, `Refused`."""
    return await cluster.get(object_path(PATH, name), _LIVE)


async def apply(cluster: Cluster, name: str, content: dict[str, Any], *, is_dry: bool) -> LiveConfiguration:
    """Server-side apply, by force: what the chart says is the chart's. Raises `Conflict` on another version than it names."""
    query = {"fieldManager": MANAGER, "force": "true"} | ({"dryRun": "All"} if is_dry else {})
    body = msgspec.json.encode(content)
    return _LIVE.decode(
        await cluster.request("PATCH", object_path(PATH, name), query=query, body=body, content_type=APPLY)
    )


async def registered(cluster: Cluster, selector: str) -> list[LiveConfiguration]:
    """All of Moorgate's. Raises `Unavailable`, `Refused`."""
    return _LIST.decode(await cluster.request("GET", PATH, query={"labelSelector": selector})).items


async def remove(cluster: Cluster, name: str) -> None:
    """Away with it. Raises `BadSetting` for what is no name, `Unavailable`, `Refused`."""
    await cluster.request("DELETE", object_path(PATH, name))


async def owner(cluster: Cluster, role: str) -> dict[str, str] | None:
    """An ownerReference to the ClusterRole as it is now; None where there is none."""
    found = await cluster.get(object_path(_ROLES, role), _ROLE)
    if found is None:
        return None
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "name": role,
        "uid": found.metadata.uid,
    }


async def secret_value(cluster: Cluster, namespace: str, name: str, key: str) -> bytes:
    """A value of a Secret; empty where it is not there."""
    found = await cluster.get(
        object_path(f"{object_path('/api/v1/namespaces', namespace)}/secrets", name), _SECRET
    )
    try:
        return base64.b64decode(found.data.get(key, ""), validate=True) if found else b""
    except binascii.Error:
        return b""
