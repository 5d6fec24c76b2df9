"""Pods, one at a time, become workloads: what the inventory keeps is bounded by these, not by the Pods.

A workload is what states one controller, by uid. Two controllers of one name (one is gone, or made up) would
share an Audit: the one whose Pods have been there longest keeps the name, for a user's Pod cannot be older
than what it pretends to belong to; the Pods of others stand for themselves. The pure part of the inventory.
"""

from datetime import UTC, datetime

from services.audit_writer.pods import Pod, running_digests
from services.audit_writer.running import RunningImage, Workload
from shared import images
from shared.contracts import OwnerClaim
from shared.crds import pod_audit_name
from shared.errors import BadImage
from shared.pods import PodImage, pod_images
from shared.releases import Release, release_of

MAX_IMAGES = 500
"""Different images kept of a workload: Pods that state one controller may name as many as they please."""

MAX_DIGESTS = 20
"""Digests kept of an image of a workload: a tag that moves runs as two, now and then three."""

MAX_REFERENCES = 5
"""References kept of a digest that several name."""


class Gathering:
    """What one inventory has seen so far."""

    def __init__(self, release_labels: tuple[str, ...]) -> None:
        self._release_labels = release_labels
        self._groups: dict[tuple[str, OwnerClaim], _Group] = {}
        self._digests: dict[tuple[str, str], set[str]] = {}

    def add(self, pod: Pod) -> None:
        """Count one Pod in; one that has ended runs no more."""
        if pod.has_ended:
            return
        key = pod.metadata.namespace, pod.owner or pod.itself
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(pod, release_of(pod, self._release_labels))
        group.add(pod)
        for digest, image in running_digests(pod):
            named = self._digests.setdefault((pod.metadata.namespace, digest), set())
            if len(named) < MAX_REFERENCES:
                named.add(image)

    def workloads(self) -> dict[tuple[str, str], Workload]:
        """By namespace and name of the Audit."""
        found: dict[tuple[str, str], Workload] = {}
        for (namespace, owner), group in sorted(self._groups.items(), key=lambda each: each[1].since):
            audit = group.audit if (namespace, group.audit) not in found else pod_audit_name(group.pod)
            found.setdefault((namespace, audit), group.workload(namespace, audit, owner))
        return found

    def digests(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """References as kubelets name them, by namespace and digest."""
        return {key: tuple(sorted(named)) for key, named in self._digests.items()}


class _Group:
    """The Pods of one controller."""

    def __init__(self, pod: Pod, release: Release) -> None:
        self.audit = pod.audit
        self.pod = pod.name
        self.release = release
        self.pods = 0
        self.since = _created(pod)
        self.images: dict[PodImage, set[str]] = {}

    def add(self, pod: Pod) -> None:
        self.pods += 1
        self.since = min(self.since, _created(pod))
        digests = {(kind, each.name): each.digest for kind, each in pod.status.by_kind() if each.digest}
        for image in pod_images(pod.spec):
            if image not in self.images and len(self.images) >= MAX_IMAGES:
                continue
            found = self.images.setdefault(image, set())
            digest = digests.get((image.kind, image.container))
            if digest and len(found) < MAX_DIGESTS:
                found.add(digest)

    def workload(self, namespace: str, audit: str, owner: OwnerClaim) -> Workload:
        return Workload(
            namespace=namespace,
            audit=audit,
            owner=owner,
            pod=self.pod,
            release=self.release.recorded,
            release_matched=self.release.name,
            fake_release=self.release.is_fake,
            pods=self.pods,
            since=self.since,
            images=tuple(_running(image, frozenset(found)) for image, found in self.images.items()),
        )


def _created(pod: Pod) -> datetime:
    return pod.metadata.creation_timestamp or datetime.max.replace(tzinfo=UTC)


def _running(image: PodImage, digests: frozenset[str]) -> RunningImage:
    return RunningImage(
        container=image.container,
        container_kind=image.kind,
        image=image.image,
        reference=_reference(image.image),
        digests=digests,
    )


def _reference(image: str) -> str:
    try:
        return str(images.parse(image))
    except BadImage:
        return ""
