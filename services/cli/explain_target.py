"""What a person names (`pod/x`, `replicaset/x`, `deployment/x`, `audit/x`) and whose record and images that are.

Needs `get` of Pods and workloads, and `list` of ReplicaSets for a Deployment.
"""

from collections.abc import Iterable

import msgspec

from shared.cluster import Cluster, object_path
from shared.contracts import OwnerClaim
from shared.crds import owner_audit_name, pod_audit_name
from shared.errors import BadSetting
from shared.pods import PodImage, PodOwner, PodSpec, controller, pod_images

_KINDS = {
    "pod": ("v1", "Pod", "pods"),
    "po": ("v1", "Pod", "pods"),
    "replicaset": ("apps/v1", "ReplicaSet", "replicasets"),
    "rs": ("apps/v1", "ReplicaSet", "replicasets"),
    "deployment": ("apps/v1", "Deployment", "deployments"),
    "deploy": ("apps/v1", "Deployment", "deployments"),
    "statefulset": ("apps/v1", "StatefulSet", "statefulsets"),
    "sts": ("apps/v1", "StatefulSet", "statefulsets"),
    "daemonset": ("apps/v1", "DaemonSet", "daemonsets"),
    "ds": ("apps/v1", "DaemonSet", "daemonsets"),
    "job": ("batch/v1", "Job", "jobs"),
    "replicationcontroller": ("v1", "ReplicationController", "replicationcontrollers"),
    "rc": ("v1", "ReplicationController", "replicationcontrollers"),
}
_REVISION = "deployment.kubernetes.io/revision"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be explained."""

    title: str
    namespace: str
    audits: tuple[str, ...]
    """Names its Audit may have, the likeliest first."""
    exists: bool
    images: tuple[PodImage, ...] = ()
    """What its Pods name, where it is there."""
    labels: dict[str, str] = {}
    """Of its Pods."""


class _Meta(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[PodOwner] = []


class _TemplateMeta(msgspec.Struct, frozen=True):
    labels: dict[str, str] = {}


class _Template(msgspec.Struct, frozen=True):
    metadata: _TemplateMeta = _TemplateMeta()
    spec: PodSpec = PodSpec()


class _Spec(PodSpec, frozen=True, kw_only=True):
    """Of a Pod the containers, of a workload its template."""

    template: _Template | None = None


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _Spec = _Spec()


class _List(msgspec.Struct, frozen=True):
    items: list[_Object]


_OBJECT = msgspec.json.Decoder(_Object)


async def find(cluster: Cluster, text: str, namespace: str) -> Target:
    """What `text` names. Raises `BadSetting`, `Unavailable`, `Refused`."""
    kind, slash, name = text.partition("/")
    if not slash or not name or "/" in name:
        raise BadSetting(
            f"{text!r} names nothing: say pod/NAME, replicaset/NAME, deployment/NAME or audit/NAME"
        )
    if kind.lower() in ("audit", "audits"):
        return Target(title=f"audit/{name}", namespace=namespace, audits=(name,), exists=False)
    known = _KINDS.get(kind.lower()) or _KINDS.get(kind.lower().removesuffix("s"))
    if known is None:
        raise BadSetting(
            f"{kind!r} is no kind that Pods come from: say pod, replicaset, deployment, … or audit"
        )
    api_version, kind_name, plural = known
    path = _path(api_version, namespace, plural)
    found = await cluster.get(object_path(path, name), _OBJECT)
    audits: tuple[str, ...]
    if kind_name == "Deployment":
        audits = await _of_deployment(cluster, namespace, name)
    elif kind_name == "Pod":
        owner = controller(found.metadata.owner_references) if found else None
        audits = (*((owner_audit_name(owner),) if owner else ()), pod_audit_name(name))
    else:
        audits = (_audit_name(api_version, kind_name, name),)
    template = found.spec.template if found else None
    labels = template.metadata.labels if template else (found.metadata.labels if found else {})
    return Target(
        title=f"{kind_name.lower()}/{name}",
        namespace=namespace,
        audits=audits,
        exists=found is not None,
        images=tuple(pod_images(template.spec if template else found.spec)) if found else (),
        labels=labels,
    )


async def _of_deployment(cluster: Cluster, namespace: str, name: str) -> tuple[str, ...]:
    """The Audits of its ReplicaSets, the newest revision first."""
    answer = await cluster.request("GET", _path("apps/v1", namespace, "replicasets"))
    owned = [each for each in msgspec.json.decode(answer, type=_List).items if _belongs_to(each, name)]
    return tuple(_audit_name("apps/v1", "ReplicaSet", each.metadata.name) for each in _newest_first(owned))


def _belongs_to(replica_set: _Object, deployment: str) -> bool:
    owner = controller(replica_set.metadata.owner_references)
    return owner is not None and (owner.kind, owner.name) == ("Deployment", deployment)


def _newest_first(replica_sets: Iterable[_Object]) -> list[_Object]:
    def revision(each: _Object) -> int:
        text = each.metadata.annotations.get(_REVISION, "")
        return int(text) if text.isdecimal() else 0

    return sorted(replica_sets, key=revision, reverse=True)


def _audit_name(api_version: str, kind: str, name: str) -> str:
    return owner_audit_name(OwnerClaim(api_version=api_version, kind=kind, name=name, uid=""))


def _path(api_version: str, namespace: str, plural: str) -> str:
    root = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
    return f"{object_path(f'{root}/namespaces', namespace)}/{plural}"
