"""A Pod as the inventory reads it: who controls it, which images it names, which digests its kubelet reports.

Only these fields are decoded; the rest of a Pod, most of its bytes, is skipped. Owner references, labels and
names of images are the user's text. The pure part of the inventory: no I/O.
"""

import re
from collections.abc import Iterator

import msgspec

from shared.contracts import ContainerKind, OwnerClaim, Utc
from shared.crds import owner_audit_name, pod_audit_name
from shared.pods import PodOwner, PodSpec, controller

_DIGEST = re.compile(r"@(sha(?:256|384|512):[0-9a-f]{64,128})$")
_ENDED = frozenset({"Succeeded", "Failed"})


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class ContainerStatus(_Wire, frozen=True, kw_only=True):
    """What a kubelet reports of one container."""

    name: str = ""
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")

    @property
    def digest(self) -> str:
        """Empty where there is none: `sha256:…` without a repository is the id of a configuration."""
        found = _DIGEST.search(self.image_id)
        return found[1] if found else ""


class PodStatus(_Wire, frozen=True, kw_only=True):
    """What a kubelet reports of a Pod."""

    phase: str = ""
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []
    ephemeral_container_statuses: list[ContainerStatus] = []

    def by_kind(self) -> Iterator[tuple[ContainerKind, ContainerStatus]]:
        """Every container's status. Kubelets report no digest of image volumes."""
        for each in self.container_statuses:
            yield ContainerKind.CONTAINER, each
        for each in self.init_container_statuses:
            yield ContainerKind.INIT, each
        for each in self.ephemeral_container_statuses:
            yield ContainerKind.EPHEMERAL, each


class PodMeta(_Wire, frozen=True, kw_only=True):
    """Who it is, and whose."""

    name: str
    namespace: str
    uid: str = ""
    labels: dict[str, str] = {}
    creation_timestamp: Utc | None = None
    owner_references: list[PodOwner] = []


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """One Pod."""

    metadata: PodMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def name(self) -> str:
        """Its own; of a Pod that a controller made another one each time."""
        return self.metadata.name

    @property
    def labels(self) -> dict[str, str]:
        """What a release is read from."""
        return self.metadata.labels

    @property
    def owner(self) -> OwnerClaim | None:
        """Its controller as it states it; a mirror Pod's is its Node."""
        return controller(self.metadata.owner_references)

    @property
    def itself(self) -> OwnerClaim:
        """The Pod, as whoever it would own names it."""
        return OwnerClaim(api_version="v1", kind="Pod", name=self.metadata.name, uid=self.metadata.uid)

    @property
    def audit(self) -> str:
        """Name of the Audit its decision is in, if what it states is true."""
        owner = self.owner
        return owner_audit_name(owner) if owner else pod_audit_name(self.metadata.name)

    @property
    def has_ended(self) -> bool:
        """It runs no more, and never will again."""
        return self.status.phase in _ENDED


def running_digests(pod: Pod) -> list[tuple[str, str]]:
    """Digest and reference of each container that a kubelet has reported; nothing of a Pod that has ended."""
    if pod.has_ended:
        return []
    return [(each.digest, each.image) for _, each in pod.status.by_kind() if each.digest]
