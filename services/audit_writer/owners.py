"""Whose Audit it is: the Pod's controller, the Pod itself, or nobody's.

An ownerReference is the user's text, and the garbage collector removes whatever names an owner that is
not there. So an owner is named only after it has been read: in the Pod's namespace or of a
cluster-scoped kind, with the claimed uid, and not being deleted.

Reads are consistent and uids never come back, and a Pod's controller is older than the Pod: a claim
whose uid is not there now is false, or about an owner that is gone. That is final at once. Only a Pod
that would own its Audit is yet to be stored when its admission is decided, and a kind may not be
served for a moment; these are looked for again.
"""

import asyncio
import re
import time
from collections import OrderedDict

from services.audit_writer.audit import Doubt, Standing
from services.audit_writer.cluster import AuditCluster, OwnerMeta, Resource
from services.audit_writer.locks import KeyedLocks
from shared.contracts import Action, AdmissionDecided, OwnerClaim
from shared.crds import OwnerReference, owner_audit_name, pod_audit_name
from shared.errors import Conflict, Refused, Unavailable

OWNERS_KNOWN, OWNERS_KNOWN_FOR = 4096, 5.0
"""Owners found alive that are remembered, and for how many seconds: the Pods of a rollout come within that.

The collector is no danger here. An owner that goes within these seconds takes the Audit along, as if the
decision had been recorded while it was read; and what would take an Audit away from another owner is read
anew (`is_alive`). Only a claim that names the remembered uid is spared the read: all others are read.
"""

LOOKUPS = 16
"""Owners read at once."""

KINDS_KNOWN, KINDS_KNOWN_FOR = 256, 15.0
"""Groups whose kinds are remembered, and for how many seconds: apiVersion is a text anybody may make up."""

_POD = Resource("pods", "Pod", namespaced=True)
_BUILT_IN = {
    "v1": {
        "Pod": _POD,
        "Node": Resource("nodes", "Node", namespaced=False),
        "ReplicationController": Resource("replicationcontrollers", "ReplicationController", namespaced=True),
    },
    "apps/v1": {
        kind: Resource(f"{kind.lower()}s", kind, namespaced=True)
        for kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")
    },
    "batch/v1": {kind: Resource(f"{kind.lower()}s", kind, namespaced=True) for kind in ("CronJob", "Job")},
}
"""What nearly every Pod's controller is: needs no discovery."""

_GROUP_VERSION = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?v[0-9][a-z0-9]{0,61}")
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.:]{0,251}[a-z0-9])?")


class Owners:
    """Looks up who may own an Audit."""

    def __init__(self, cluster: AuditCluster) -> None:
        self._cluster = cluster
        self._kinds: OrderedDict[str, tuple[float, dict[str, Resource]]] = OrderedDict()
        self._alive: OrderedDict[tuple[str, OwnerClaim], float] = OrderedDict()
        self._claims = KeyedLocks()
        self._lookups = asyncio.Semaphore(LOOKUPS)

    async def standing(self, decision: AdmissionDecided) -> Standing:
        """Where the decision is recorded, and who owns that. Raises `Unavailable`: the API server is away."""
        if decision.owner is not None:
            return await self._claimed(decision, decision.owner)
        return await self._alone(decision)

    async def is_alive(self, namespace: str, owner: OwnerReference) -> bool:
        """Whether this owner is there now, whatever is remembered. Raises `Unavailable`."""
        claim = OwnerClaim(api_version=owner.api_version, kind=owner.kind, name=owner.name, uid=owner.uid)
        self._alive.pop((namespace, claim), None)
        try:
            return await self._doubt(namespace, claim) is None
        except _Unserved:
            return False

    async def _alone(self, decision: AdmissionDecided) -> Standing:
        """A Pod without a controller: it owns its Audit once it is stored."""
        name = pod_audit_name(decision.pod_name)
        if not _OBJECT_NAME.fullmatch(decision.pod_name):
            return Standing(name=name)
        async with self._lookups:
            pod = await self._cluster.owner("v1", _POD, decision.namespace, decision.pod_name)
        was_allowed = decision.action is Action.ALLOWED
        if pod is None:
            return Standing(name=name, is_final=not was_allowed)
        if pod.deletion_timestamp:
            return Standing(name=name)
        if pod.uid != decision.pod_uid:
            return Standing(name=name, is_final=not was_allowed, is_attempt=True)
        if not was_allowed:
            return Standing(name=name)
        owner = OwnerClaim(api_version="v1", kind="Pod", name=decision.pod_name, uid=pod.uid)
        return Standing(name=name, owner=_reference(owner))

    async def _claimed(self, decision: AdmissionDecided, claim: OwnerClaim) -> Standing:
        """The controller's Audit if the claim checks out, else the Pod's own."""
        is_final = True
        try:
            async with self._claims.hold((decision.namespace, claim)):  # of a burst's Pods one reads
                doubt = await self._remembered_doubt(decision.namespace, claim)
        except _Unserved as error:
            doubt, is_final = Doubt("KindNotServed", str(error)), False
        if doubt is None:
            return Standing(name=owner_audit_name(claim), owner=_reference(claim))
        return Standing(name=pod_audit_name(decision.pod_name), doubt=doubt, is_final=is_final)

    async def _remembered_doubt(self, namespace: str, claim: OwnerClaim) -> Doubt | None:
        """As `_doubt`; an owner that was found alive just now is not read again."""
        now, key = time.monotonic(), (namespace, claim)
        if self._alive.get(key, now) > now:
            return None
        doubt = await self._doubt(namespace, claim)
        self._alive.pop(key, None)
        if doubt is None:
            self._alive[key] = now + OWNERS_KNOWN_FOR
            if len(self._alive) > OWNERS_KNOWN:
                self._alive.popitem(last=False)
        return doubt

    async def _doubt(self, namespace: str, claim: OwnerClaim) -> Doubt | None:
        """Why the claim does not check out; None: it does. Raises `_Unserved`."""
        what = f"{claim.kind} {claim.name} ({claim.api_version})"
        if not _GROUP_VERSION.fullmatch(claim.api_version) or not _OBJECT_NAME.fullmatch(claim.name):
            return Doubt("BadReference", f"{what} is no name of an object")
        try:
            owner = await self._read(namespace, claim)
        except (Refused, Conflict) as error:
            return Doubt("NotReadable", f"{what} cannot be read: {error}")
        if owner is None:
            return Doubt("OwnerNotFound", f"there is no {what} that this Pod could belong to")
        if owner.uid != claim.uid:
            return Doubt("OtherUid", f"{what} has uid {owner.uid}, the Pod names {claim.uid}")
        if owner.deletion_timestamp:
            return Doubt("OwnerBeingDeleted", f"{what} is being deleted")
        return None

    async def _read(self, namespace: str, claim: OwnerClaim) -> OwnerMeta | None:
        try:
            resource = await self._resource(claim.api_version, claim.kind)
            if resource is None:
                raise _Unserved(f"no {claim.kind} in {claim.api_version}")
            async with self._lookups:
                return await self._cluster.owner(claim.api_version, resource, namespace, claim.name)
        except Unavailable as error:
            # An extension's own API server may be away for ever: that must not hold up everybody else.
            if claim.api_version in _BUILT_IN or not await self._cluster.answers():
                raise
            raise _Unserved(str(error)) from error

    async def _resource(self, api_version: str, kind: str) -> Resource | None:
        built_in = _BUILT_IN.get(api_version, {}).get(kind)
        if built_in:
            return built_in
        known = self._kinds.get(api_version)
        if known is None or known[0] < time.monotonic():
            known = (time.monotonic() + KINDS_KNOWN_FOR, await self._cluster.resources(api_version))
            self._kinds[api_version] = known
            if len(self._kinds) > KINDS_KNOWN:
                self._kinds.popitem(last=False)
        return known[1].get(kind)


def _reference(owner: OwnerClaim) -> OwnerReference:
    return OwnerReference(api_version=owner.api_version, kind=owner.kind, name=owner.name, uid=owner.uid)


class _Unserved(Exception):
    """The kind cannot be read now, though the API server answers."""
