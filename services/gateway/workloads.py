"""Which images an object brings into the cluster: one extractor for each kind that holds Pods.

What a Pod's spec names is read by shared/pods.py. On an update only the images that the old object lacks
count, so that a `kubectl debug` on a degraded Pod works. Owner references and labels are read as what
they are: the user's text.
"""

import msgspec

from services.gateway.admission import AdmissionRequest, BadReview, decode_object
from shared.contracts import OwnerClaim
from shared.pods import PodImage, PodOwner, PodSpec, controller, pod_images

POD = "Pod"


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


class _Metadata(_Wire, frozen=True, kw_only=True):
    name: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    owner_references: list[PodOwner] | None = None
    deletion_timestamp: str | None = None


class _Pod(_Wire, frozen=True, kw_only=True):
    spec: PodSpec
    metadata: _Metadata = _Metadata()


class _Template(_Wire, frozen=True, kw_only=True):
    metadata: _Metadata | None = None
    spec: PodSpec = PodSpec()


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
    images = pod_images(_pod_spec(new))
    if old is not None:
        known = {each.image for each in pod_images(_pod_spec(old))}
        images = [each for each in images if each.image not in known]
    metadata = new.metadata
    return Workload(
        kind=request.kind.kind,
        namespace=request.namespace,
        name=metadata.name or request.name,
        uid=metadata.uid,
        labels=_labels(new),
        owner=controller(metadata.owner_references),
        images=tuple(images),
        is_being_deleted=old is not None and old.metadata.deletion_timestamp is not None,
    )


def _pod_spec(workload: _Any) -> PodSpec:
    template = _template(workload)
    if isinstance(workload, _Pod):
        return workload.spec
    return template.spec if template else PodSpec()


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
