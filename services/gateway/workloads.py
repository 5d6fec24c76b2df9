"""Which images an object brings into the cluster: one extractor for each kind that holds Pods.

Looked at are containers, init and ephemeral containers and image volumes. On an update only the images
that the old object lacks count, so that a `kubectl debug` on a degraded Pod works. Owner references
and labels are read as what they are: the user's text.
"""

from collections.abc import Iterator

import msgspec

from services.gateway.admission import AdmissionRequest, BadReview, decode_object
from shared.contracts import ContainerKind, OwnerClaim

POD = "Pod"


class PodImage(msgspec.Struct, frozen=True):
    """One image of a Pod or Pod template, as written."""

    container: str
    kind: ContainerKind
    image: str


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is about, as far as a decision needs it."""

    kind: str
    namespace: str
    name: str
    uid: str
    labels: dict[str, str]
    owner: OwnerClaim | None
    images: tuple[PodImage, ...]
    """On an update only those that the old object lacks."""
    is_being_deleted: bool = False
    """By the old object: what the new one says of itself is the user's text."""

    @property
    def is_pod(self) -> bool:
        """Only Pods can be refused; what holds Pods is warned about."""
        return self.kind == POD


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class _Container(_Wire, frozen=True, kw_only=True):
    name: str = ""
    image: str = ""


class _ImageVolume(_Wire, frozen=True, kw_only=True):
    reference: str = ""


class _Volume(_Wire, frozen=True, kw_only=True):
    name: str = ""
    image: _ImageVolume | None = None


class _PodSpec(_Wire, frozen=True, kw_only=True):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = None
    volumes: list[_Volume] | None = None


class _OwnerReference(_Wire, frozen=True, kw_only=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class _Metadata(_Wire, frozen=True, kw_only=True):
    name: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    owner_references: list[_OwnerReference] | None = None
    deletion_timestamp: str | None = None


class _Pod(_Wire, frozen=True, kw_only=True):
    spec: _PodSpec
    metadata: _Metadata = _Metadata()


class _Template(_Wire, frozen=True, kw_only=True):
    metadata: _Metadata | None = None
    spec: _PodSpec = _PodSpec()


class _TemplatedSpec(_Wire, frozen=True, kw_only=True):
    template: _Template | None = None


class _Templated(_Wire, frozen=True, kw_only=True):
    spec: _TemplatedSpec
    metadata: _Metadata = _Metadata()


class _JobTemplate(_Wire, frozen=True, kw_only=True):
    spec: _TemplatedSpec


class _CronJobSpec(_Wire, frozen=True, kw_only=True):
    job_template: _JobTemplate


class _CronJob(_Wire, frozen=True, kw_only=True):
    spec: _CronJobSpec
    metadata: _Metadata = _Metadata()


_Any = _Pod | _Templated | _CronJob
_TEMPLATED = msgspec.json.Decoder(_Templated)
_DECODERS: dict[
    tuple[str, str],
    "msgspec.json.Decoder[_Pod] | msgspec.json.Decoder[_Templated] | msgspec.json.Decoder[_CronJob]",
] = {
    ("", POD): msgspec.json.Decoder(_Pod),
    ("", "ReplicationController"): _TEMPLATED,
    ("apps", "Deployment"): _TEMPLATED,
    ("apps", "StatefulSet"): _TEMPLATED,
    ("apps", "DaemonSet"): _TEMPLATED,
    ("apps", "ReplicaSet"): _TEMPLATED,
    ("batch", "Job"): _TEMPLATED,
    ("batch", "CronJob"): msgspec.json.Decoder(_CronJob),
}


def extract(request: AdmissionRequest) -> Workload | None:
    """The workload of a CREATE or UPDATE; None where there is nothing to look at. Raises `BadReview`."""
    if request.operation not in ("CREATE", "UPDATE") or request.sub_resource not in (
        "",
        "ephemeralcontainers",
    ):
        return None
    kind = request.kind.kind
    decoder = _DECODERS.get((request.kind.group, kind))
    if decoder is None:
        return None
    new = decode_object(request.object, decoder, kind)
    if new is None:
        raise BadReview(f"{request.operation} of a {kind} without an object")
    old = decode_object(request.old_object, decoder, kind) if request.operation == "UPDATE" else None
    return _workload(request, new, old)


def _workload(request: AdmissionRequest, new: _Any, old: _Any | None) -> Workload:
    known = {each.image for each in _images(_pod_spec(old))} if old is not None else set()
    metadata = new.metadata
    return Workload(
        kind=request.kind.kind,
        namespace=request.namespace,
        name=metadata.name or request.name,
        uid=metadata.uid,
        labels=_labels(new),
        owner=_controller(metadata),
        images=tuple(each for each in _images(_pod_spec(new)) if each.image not in known),
        is_being_deleted=old is not None and old.metadata.deletion_timestamp is not None,
    )


def _pod_spec(workload: _Any) -> _PodSpec:
    template = _template(workload)
    if isinstance(workload, _Pod):
        return workload.spec
    return template.spec if template else _PodSpec()


def _template(workload: _Any) -> _Template | None:
    if isinstance(workload, _CronJob):
        return workload.spec.job_template.spec.template
    return workload.spec.template if isinstance(workload, _Templated) else None


def _labels(workload: _Any) -> dict[str, str]:
    """The labels its Pods have: a template's own, for those are what a release is read from."""
    if isinstance(workload, _Pod):
        return workload.metadata.labels or {}
    template = _template(workload)
    return (template.metadata.labels or {}) if template and template.metadata else {}


def _controller(metadata: _Metadata) -> OwnerClaim | None:
    """The one reference with `controller: true`."""
    for reference in metadata.owner_references or ():
        if reference.controller:
            return OwnerClaim(
                api_version=reference.api_version, kind=reference.kind, name=reference.name, uid=reference.uid
            )
    return None


def _images(spec: _PodSpec) -> Iterator[PodImage]:
    groups = (
        (ContainerKind.INIT, spec.init_containers),
        (ContainerKind.CONTAINER, spec.containers),
        (ContainerKind.EPHEMERAL, spec.ephemeral_containers),
    )
    for kind, containers in groups:
        for container in containers or ():
            yield PodImage(container.name, kind, container.image)
    for volume in spec.volumes or ():
        if volume.image and volume.image.reference:
            yield PodImage(volume.name, ContainerKind.VOLUME, volume.image.reference)
