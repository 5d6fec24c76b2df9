"""The API server, as the audit-writer needs it: Audits, owners, and what kinds there are.

Translates and holds no rules. What shared/cluster.py raises passes through; a 4xx becomes what it means
for the decision at hand: the namespace is gone (nothing to record), refused for now (quota, missing
rights: `Retryable`), no such resource (the CRD is missing: `Unavailable`), or an object that the API
server does not take (`Permanent`).
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import quote

import msgspec

from services.audit_writer.rates import WriteRate
from shared.cluster import Cluster, ListMeta, pages
from shared.contracts import Utc
from shared.crds import API_VERSION, OWNED_LABEL, Audit, AuditMetadata, audits_path
from shared.errors import BadSetting, MoorgateError, Permanent, Refused, Retryable, Unavailable

MANAGER = "moorgate-audit-writer"
"""Field manager of the applies."""

SWEEP_PAGE = 100
"""Audits a page: at most 64 KiB each."""

REFUSED_DELAY = 30.0
"""Seconds until a write that a quota or missing rights refused is tried again."""

OLD_CRD = (
    "the cluster has the cluster-scoped Audits of the Anchore Image Validator, and Moorgate's belong to namespaces: "
    "keep them by `kubectl get audits.security.banzaicloud.com -o yaml > audits-old.yaml`, then "
    "`kubectl delete crd audits.security.banzaicloud.com` and install Moorgate's (docs/upgrading.md)"
)
"""What to do about the CustomResourceDefinition of the same group and name."""

_NOT_FOUND, _FORBIDDEN = 404, 403


class NamespaceGone(MoorgateError):
    """The namespace does not exist, or is being terminated: nothing can be recorded there any more."""


class StoredAudit(msgspec.Struct, frozen=True):
    """An Audit as it was read; `audit` is None where somebody else's hand made it unreadable."""

    metadata: AuditMetadata
    audit: Audit | None


class OwnerMeta(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of an owner."""

    uid: str
    deletion_timestamp: str | None = None


class Resource(msgspec.Struct, frozen=True):
    """One kind, as API discovery describes it."""

    name: str
    kind: str
    namespaced: bool


class LastSeen(msgspec.Struct, frozen=True, rename="camel"):
    """The part of an Audit's status that tells its age."""

    last_seen: Utc


class UnownedAudit(msgspec.Struct, frozen=True):
    """What the sweep needs of an Audit."""

    metadata: AuditMetadata
    status: LastSeen


class _Head(msgspec.Struct, frozen=True):
    metadata: AuditMetadata


class _Owner(msgspec.Struct, frozen=True):
    metadata: OwnerMeta


class _Resources(msgspec.Struct, frozen=True):
    resources: tuple[Resource, ...] = ()


class _Page(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]
    metadata: ListMeta = ListMeta()


class _Preconditions(msgspec.Struct, frozen=True, rename="camel"):
    uid: str | None
    resource_version: str | None


class _DeleteOptions(msgspec.Struct, frozen=True, rename="camel"):
    preconditions: _Preconditions
    api_version: str = "v1"
    kind: str = "DeleteOptions"


_RAW = msgspec.json.Decoder(msgspec.Raw)
_AUDIT, _HEAD = msgspec.json.Decoder(Audit), msgspec.json.Decoder(_Head)
_OWNER, _RESOURCES = msgspec.json.Decoder(_Owner), msgspec.json.Decoder(_Resources)
_PAGE, _UNOWNED = msgspec.json.Decoder(_Page), msgspec.json.Decoder(UnownedAudit)


class AuditCluster:
    """Audits and their owners on one API server; all writes take turns at the process's rate."""

    def __init__(self, cluster: Cluster, rate: WriteRate | None = None) -> None:
        self._cluster = cluster
        self._rate = rate or WriteRate()

    async def audit(self, namespace: str, name: str) -> StoredAudit | None:
        """The Audit, or None where there is none."""
        with _meaning(namespace):
            raw = await self._cluster.get(f"{audits_path(namespace)}/{name}", _RAW)
        return None if raw is None else _stored(bytes(raw))

    async def create(self, audit: Audit) -> StoredAudit:
        """Raises `Conflict` where the name is taken, `NamespaceGone`."""
        namespace = audit.metadata.namespace
        async with self._writing():
            with _meaning(namespace):
                return _stored(await self._cluster.create(audits_path(namespace), audit))

    async def apply(self, audit: Audit) -> StoredAudit:
        """Change exactly the object whose uid and resourceVersion `audit` carries; else `Conflict`."""
        metadata = audit.metadata
        path = f"{audits_path(metadata.namespace)}/{metadata.name}"
        async with self._writing():
            with _meaning(metadata.namespace):
                return _stored(await self._cluster.apply(path, audit, MANAGER))

    async def delete(self, metadata: AuditMetadata) -> None:
        """Delete exactly this object, unless it has changed since it was read (`Conflict`)."""
        options = _DeleteOptions(_Preconditions(metadata.uid, metadata.resource_version))
        path = f"{audits_path(metadata.namespace)}/{metadata.name}"
        async with self._writing():
            await self._cluster.request("DELETE", path, body=msgspec.json.encode(options))

    async def unowned(self) -> AsyncIterator[UnownedAudit]:
        """All Audits without an owner, page by page; unreadable ones are left out."""
        async for page in self._pages(labelSelector=f"{OWNED_LABEL}=false"):
            for item in page.items:
                try:
                    unowned = _UNOWNED.decode(item)
                except msgspec.MsgspecError:
                    continue
                yield unowned

    async def all(self) -> AsyncIterator[Audit]:
        """Every Audit, page by page; unreadable ones, and what is being deleted, are left out."""
        async for page in self._pages():
            for item in page.items:
                stored = _stored(bytes(item))
                if stored.audit and not stored.metadata.deletion_timestamp:
                    yield stored.audit

    def _pages(self, **query: str) -> AsyncIterator[_Page]:
        return pages(self._cluster, audits_path(), _PAGE.decode, limit=str(SWEEP_PAGE), **query)

    async def owner(
        self, api_version: str, resource: Resource, namespace: str, name: str
    ) -> OwnerMeta | None:
        """The metadata of an owner, or None where there is none. Raises `Refused`, `Unavailable`."""
        within = f"/namespaces/{quote(namespace, safe='')}" if resource.namespaced else ""
        path = f"{_root(api_version)}{within}/{resource.name}/{quote(name, safe='')}"
        found = await self._cluster.get(path, _OWNER)
        return found.metadata if found else None

    async def resources(self, api_version: str) -> dict[str, Resource]:
        """The kinds of a group and version, by name; none where there is no such group."""
        found = await self._cluster.get(_root(api_version), _RESOURCES)
        resources = found.resources if found else ()
        return {each.kind: each for each in resources if "/" not in each.name}

    async def answers(self) -> bool:
        """True while the API server answers and knows Audits that belong to namespaces."""
        try:
            audits = (await self.resources(API_VERSION)).get("Audit")
        except MoorgateError:
            return False
        return audits is not None and audits.namespaced

    async def check_scope(self) -> None:
        """Raises `BadSetting` where Audits are those of the Anchore Image Validator, which belong to no namespace."""
        try:
            audits = (await self.resources(API_VERSION)).get("Audit")
        except (Refused, Unavailable):
            return
        if audits and not audits.namespaced:
            raise BadSetting(OLD_CRD)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Wait for a turn; when the API server wants to be left alone, everybody's turn comes later."""
        await self._rate.take()
        try:
            yield
        except Unavailable as error:
            self._rate.pause(error.delay)
            raise


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _stored(answer: bytes) -> StoredAudit:
    try:
        audit = _AUDIT.decode(answer)
    except msgspec.MsgspecError:
        return StoredAudit(_HEAD.decode(answer).metadata, None)
    return StoredAudit(audit.metadata, audit)


@contextmanager
def _meaning(namespace: str) -> Iterator[None]:
    """What the API server's refusal to read or write an Audit means."""
    try:
        yield
    except Refused as error:
        text = str(error)
        if error.status == _NOT_FOUND and f'namespaces "{namespace}" not found' in text:
            raise NamespaceGone(text) from error
        if error.status == _FORBIDDEN and "being terminated" in text:
            raise NamespaceGone(text) from error
        if error.status == _FORBIDDEN:
            raise Retryable(text, delay=REFUSED_DELAY) from error
        if error.status == _NOT_FOUND:
            raise Unavailable("kubernetes", f"no Audits there: {text}", delay=1.0) from error
        raise Permanent(text) from error
