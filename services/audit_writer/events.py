"""A flip as a Kubernetes Event, so that `kubectl describe` of what runs the image shows it.

One for the Pods' controller, and one for what that belongs to where people look there: the Deployment of a
ReplicaSet, the CronJob of a Job. Its name follows from the flip, so a repetition is the same Event. Events are
told to people who look; nothing depends on them, and one that cannot be written is given up.
"""

import hashlib
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from services.audit_writer.limits import cut
from services.audit_writer.rates import WriteRate
from services.audit_writer.running import Workload
from services.audit_writer.turns import Flip, sentence
from shared import logs
from shared.cluster import Cluster
from shared.contracts import OwnerClaim, Result
from shared.errors import Conflict, MoorgateError

API_VERSION = "events.k8s.io/v1"
REPORTER = "moorgate.security.banzaicloud.com/audit-writer"

MAX_NOTE = 1024
"""Bytes that the API server takes."""

_MAX_PREFIX, _MAX_INSTANCE = 200, 128
_REASONS = {Result.FAIL: "ImageDegraded", Result.PASS: "ImageRecovered"}
_TYPES = {Result.FAIL: "Warning", Result.PASS: "Normal"}
_HOLDERS = {("apps/v1", "ReplicaSet"): "replicasets", ("batch/v1", "Job"): "jobs"}
"""Controllers that people know by what these belong to."""


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class _Regarding(_Wire, frozen=True, kw_only=True):
    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class _Meta(_Wire, frozen=True, kw_only=True):
    name: str
    namespace: str


class Event(_Wire, frozen=True, kw_only=True):
    """As in events.k8s.io/v1."""

    metadata: _Meta
    regarding: _Regarding
    reason: str
    type: str
    note: str
    event_time: str
    reporting_instance: str
    reporting_controller: str = REPORTER
    action: str = "Judged"
    api_version: str = API_VERSION
    kind: str = "Event"


class _Owner(_Wire, frozen=True, kw_only=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class _Owned(_Wire, frozen=True, kw_only=True):
    uid: str = ""
    owner_references: tuple[_Owner, ...] = ()


class _Holder(_Wire, frozen=True, kw_only=True):
    metadata: _Owned


_HOLDER = msgspec.json.Decoder(_Holder)


class Events:
    """Writes Events."""

    def __init__(self, cluster: Cluster, rate: WriteRate, source: str) -> None:
        """`source` names this process."""
        self._cluster = cluster
        self._rate = rate
        self._source = source
        self._log = logs.logger("events")

    async def tell(self, flip: Flip, identity: str, workload: Workload) -> None:
        """Tell of the flip with this id; again changes nothing. Raises nothing of the API server's."""
        try:
            regarding = [workload.owner, *await self._holders(workload)]
        except MoorgateError as error:
            self._log.info("owner_not_read", owner=workload.owner.name, error=str(error))
            regarding = [workload.owner]
        for each in regarding:
            await self._write(event_of(flip, identity, workload.namespace, each, self._source))

    async def _write(self, event: Event) -> None:
        await self._rate.take()
        path = f"/apis/{API_VERSION}/namespaces/{event.metadata.namespace}/events"
        try:
            await self._cluster.create(path, event)
        except Conflict:
            return
        except MoorgateError as error:
            self._log.warning("event_not_written", name=event.metadata.name, error=str(error))

    async def _holders(self, workload: Workload) -> list[OwnerClaim]:
        """What the Pods' controller belongs to, as itself says. Raises like the cluster."""
        owner = workload.owner
        plural = _HOLDERS.get((owner.api_version, owner.kind))
        if plural is None:
            return []
        path = (
            f"/apis/{owner.api_version}/namespaces/{workload.namespace}/{plural}/{quote(owner.name, safe='')}"
        )
        found = await self._cluster.get(path, _HOLDER)
        if found is None or found.metadata.uid != owner.uid:
            return []
        return [
            OwnerClaim(api_version=each.api_version, kind=each.kind, name=each.name, uid=each.uid)
            for each in found.metadata.owner_references
            if each.controller
        ]


def event_of(flip: Flip, identity: str, namespace: str, regarding: OwnerClaim, source: str) -> Event:
    """The Event of one flip about one object."""
    about = hashlib.sha256(f"{identity}/{regarding.uid}".encode()).hexdigest()[:16]
    result = flip.sight.result
    return Event(
        metadata=_Meta(name=f"{regarding.name[:_MAX_PREFIX].rstrip('.-')}.{about}", namespace=namespace),
        regarding=_Regarding(
            api_version=regarding.api_version,
            kind=regarding.kind,
            namespace=namespace,
            name=regarding.name,
            uid=regarding.uid,
        ),
        reason=_REASONS[result],
        type=_TYPES[result],
        note=cut(sentence(flip), MAX_NOTE),
        event_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        reporting_instance=source[:_MAX_INSTANCE],
    )
