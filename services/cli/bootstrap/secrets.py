"""Secrets in Kubernetes: the one that keeps the generated credentials, and those of registries.

RBAC: `get`, `create` and `patch` of `secrets`, in the namespaces that the settings name (`create` cannot be limited by name).
What is written is guarded by the resourceVersion that was read, so of two runs at once one starts again from what the
other wrote. Keys of the Secret that are not ours stay as they are.
"""

import base64
import binascii

import msgspec

from services.cli.bootstrap.file import SecretName
from shared.cluster import MERGE, Cluster, object_path

USERNAME, PASSWORD, ACCOUNT, URL = "username", "password", "account", "url"
"""The keys; a scanner mounts `password` as its MOORGATE_ANCHORE_PASSWORD_FILE."""

LABELS = {"app.kubernetes.io/managed-by": "moorgate"}


class Metadata(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """What is needed of an object's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}


class KubeSecret(msgspec.Struct, kw_only=True, rename="camel"):
    """A Secret, with its values in base64."""

    api_version: str = "v1"
    kind: str = "Secret"
    type: str = "Opaque"
    metadata: Metadata
    data: dict[str, str] = {}

    def value(self, key: str) -> str:
        """A value as text; empty where there is none, or none that is text."""
        try:
            return base64.b64decode(self.data.get(key, ""), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""


async def read(cluster: Cluster, name: SecretName) -> KubeSecret | None:
    """The Secret, or None. Raises `Unavailable`, `Refused`."""
    return await cluster.get(object_path(_collection(name), name.name), _SECRET)


async def write(
    cluster: Cluster, name: SecretName, present: KubeSecret | None, values: dict[str, str]
) -> None:
    """Make the Secret, or change these values of it. Raises `Conflict` when it is not what was read any more."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    if present is None:
        metadata = Metadata(name=name.name, namespace=name.namespace, labels=LABELS)
        await cluster.create(_collection(name), KubeSecret(metadata=metadata, data=data))
        return
    patch = {
        "metadata": {"labels": LABELS, "resourceVersion": present.metadata.resource_version},
        "data": data,
    }
    path = object_path(_collection(name), name.name)
    await cluster.request("PATCH", path, body=msgspec.json.encode(patch), content_type=MERGE)


def _collection(name: SecretName) -> str:
    return f"{object_path('/api/v1/namespaces', name.namespace)}/secrets"


_SECRET = msgspec.json.Decoder(KubeSecret)
