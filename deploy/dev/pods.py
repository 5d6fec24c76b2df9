"""What the stand-in kubelet reads of a Pod and what it reports about it; pure, no I/O.

Containers are said to run the moment their Pod has a node. The digest of what "was pulled" is taken from
the reference, else from the registry file the kubelet was given, else made up from the reference. The
reading of image references is written out here rather than shared with the services: a mistake must not
agree with itself.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

Phase = Literal["Running", "Succeeded"]


class _Read(msgspec.Struct, frozen=True, rename="camel"):
    """A part of an object, as much of it as the kubelet uses."""


class Metadata(_Read, frozen=True):
    """Who the Pod is, whose it is, and whether it is on its way out."""

    name: str
    namespace: str
    uid: str
    resource_version: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    owner_references: list["Owner"] = []


class Owner(_Read, frozen=True):
    """One owner reference."""

    kind: str
    controller: bool = False


class Container(_Read, frozen=True):
    """A container as asked for; an init container that restarts always is a sidecar."""

    name: str
    image: str = ""
    restart_policy: str = ""


class MatchField(_Read, frozen=True):
    """How a DaemonSet says which node its Pod is for: metadata.name In [node]."""

    key: str
    values: list[str] = []


class NodeSelectorTerm(_Read, frozen=True):
    """One alternative of a required node affinity."""

    match_fields: list[MatchField] = []


class RequiredNodeAffinity(_Read, frozen=True):
    """The alternatives of a required node affinity."""

    node_selector_terms: list[NodeSelectorTerm] = []


class NodeAffinity(_Read, frozen=True):
    """Only what is required; preferences are not kept."""

    required: RequiredNodeAffinity | None = msgspec.field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )


class Affinity(_Read, frozen=True):
    """Only the affinity to nodes."""

    node_affinity: NodeAffinity | None = None


class PodSpec(_Read, frozen=True):
    """What the Pod asks for."""

    containers: list[Container]
    init_containers: list[Container] = []
    ephemeral_containers: list[Container] = []
    node_name: str = ""
    scheduler_name: str = "default-scheduler"
    scheduling_gates: list[msgspec.Raw] = []
    affinity: Affinity | None = None


class ContainerStatus(_Read, frozen=True):
    """What was reported about a container."""

    name: str
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")


class PodStatus(_Read, frozen=True):
    """What was reported about the Pod."""

    phase: str = "Pending"
    start_time: str | None = None
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []
    ephemeral_container_statuses: list[ContainerStatus] = []


class Pod(_Read, frozen=True):
    """A Pod as the watch delivers it."""

    metadata: Metadata
    spec: PodSpec
    status: PodStatus = PodStatus()

    @property
    def path(self) -> str:
        """Where it is in the API."""
        return f"/api/v1/namespaces/{self.metadata.namespace}/pods/{self.metadata.name}"

    @property
    def is_of_a_job(self) -> bool:
        """Whether a Job controls it, so that it ends some time."""
        return any(owner.controller and owner.kind == "Job" for owner in self.metadata.owner_references)

    @property
    def is_finished(self) -> bool:
        """Whether it has ended for good."""
        return self.status.phase in {"Succeeded", "Failed"}

    @property
    def waits_for_a_node(self) -> bool:
        """Whether the scheduler has something to do."""
        spec = self.spec
        return not spec.node_name and spec.scheduler_name == "default-scheduler" and not spec.scheduling_gates

    @property
    def wanted_nodes(self) -> list[str]:
        """The nodes a DaemonSet made it for; empty: any."""
        affinity = self.spec.affinity
        if affinity is None or affinity.node_affinity is None or affinity.node_affinity.required is None:
            return []
        terms = affinity.node_affinity.required.node_selector_terms
        fields = (field for term in terms for field in term.match_fields if field.key == "metadata.name")
        return [value for field in fields for value in field.values]


def is_reported(pod: Pod) -> bool:
    """Whether what the Pod asks for has been reported as running, ephemeral containers included."""
    spec, status = pod.spec, pod.status
    asked = [*spec.init_containers, *spec.containers, *spec.ephemeral_containers]
    said = {report.name: report.image for report in _reported(status)}
    return status.phase == "Running" and all(said.get(c.name) == full_name(c.image) for c in asked)


def report(pod: Pod, phase: Phase, digests: Mapping[str, str], now: str) -> dict[str, Any]:
    """The Pod's status: all containers running, or all completed."""
    pulled = {(r.name, r.image): r.image_id for r in _reported(pod.status)}
    started = pod.status.start_time or now
    runs = phase == "Running"

    def statuses(containers: Sequence[Container], *, running: bool) -> list[dict[str, Any]]:
        return [
            _container_status(
                container,
                # A running container keeps its image, wherever the tag has moved to since.
                pulled.get((container.name, full_name(container.image)))
                or image_id(container.image, digests),
                running=running or (runs and container.restart_policy == "Always"),
                now=now,
                pod_uid=pod.metadata.uid,
            )
            for container in containers
        ]

    return {
        "phase": phase,
        "conditions": list(_conditions(now, ready=runs)),
        "hostIP": "192.0.2.10",
        "podIP": _address(pod.metadata.uid),
        "podIPs": [{"ip": _address(pod.metadata.uid)}],
        "startTime": started,
        "initContainerStatuses": statuses(pod.spec.init_containers, running=False),
        "containerStatuses": statuses(pod.spec.containers, running=runs),
        "ephemeralContainerStatuses": statuses(pod.spec.ephemeral_containers, running=runs),
    }


def image_id(reference: str, digests: Mapping[str, str]) -> str:
    """What a container runtime reports as imageID: repository@digest."""
    full = full_name(reference)
    name, _, digest = full.partition("@")
    digest = digest or digests.get(reference) or digests.get(full) or _made_up_digest(full)
    return f"{_without_tag(name)}@{digest}"


def full_name(reference: str) -> str:
    """The reference with Docker Hub's defaults written out: registry, `library/` and `latest`."""
    name, at, digest = reference.partition("@")
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    if not at and _without_tag(name) == name:
        name = f"{name}:latest"
    return f"{name}{at}{digest}"


def _without_tag(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"


def _made_up_digest(name: str) -> str:
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def _reported(status: PodStatus) -> list[ContainerStatus]:
    return [
        *status.init_container_statuses,
        *status.container_statuses,
        *status.ephemeral_container_statuses,
    ]


def _container_status(
    container: Container, pulled: str, *, running: bool, now: str, pod_uid: str
) -> dict[str, Any]:
    ended = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}
    container_id = hashlib.sha256(f"{pod_uid}/{container.name}".encode()).hexdigest()
    return {
        "name": container.name,
        "image": full_name(container.image),
        "imageID": pulled,
        "containerID": f"containerd://{container_id}",
        "ready": running,
        "started": running,
        "restartCount": 0,
        "state": {"running": {"startedAt": now}} if running else {"terminated": ended},
    }


def _conditions(now: str, *, ready: bool) -> Iterator[dict[str, str]]:
    for kind in ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"):
        holds = ready or kind in {"PodScheduled", "Initialized"}
        condition = {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": now}
        yield condition if holds else {**condition, "reason": "PodCompleted"}


def _address(uid: str) -> str:
    one, two, three = hashlib.sha256(uid.encode()).digest()[:3]
    return f"10.{one}.{two}.{three}"
