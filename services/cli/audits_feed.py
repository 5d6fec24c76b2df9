"""Audits as the API server has them: one list in pages, then every change, for as long as somebody looks.

`shared.watches` follows for ever and says so in a log; this is for a person at a terminal: a right that is missing ends
it, an API server that is away is told once, and what changed meanwhile is shown when it is back.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Literal, NamedTuple

import msgspec

from shared import logs
from shared.cluster import Cluster, ListMeta, pages
from shared.crds import Audit, audits_path
from shared.errors import Refused, Unavailable
from shared.watches import WATCH_SECONDS

AGAIN = 2.0
"""Seconds before an API server that was away is asked again."""

_GONE = 410
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which Audits."""

    namespace: str = ""
    """Empty: of all namespaces."""
    labels: str = ""
    """A label selector."""

    def query(self, **more: str) -> dict[str, str]:
        """As the API server wants it."""
        return {**({"labelSelector": self.labels} if self.labels else {}), **more}


class Change(NamedTuple):
    """What became of an Audit; `gone` also where it no longer is like the selection."""

    what: Literal["there", "new", "changed", "gone"]
    audit: Audit


class _Page(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]
    metadata: ListMeta = ListMeta()


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


class _Versioned(msgspec.Struct, frozen=True):
    metadata: ListMeta


async def read(cluster: Cluster, selection: Selection) -> tuple[list[Audit], str]:
    """All of them, and the version to follow from. Raises `Unavailable`, `Refused`."""
    found: list[Audit] = []
    version = ""
    listed = pages(
        cluster, audits_path(selection.namespace), msgspec.json.Decoder(_Page).decode, **selection.query()
    )
    async for page in listed:
        found += _readable(page.items)
        version = page.metadata.resource_version
    return found, version


async def follow(
    cluster: Cluster, selection: Selection, seen: list[Audit], version: str, say: Callable[[str], None]
) -> AsyncGenerator[Change, None]:
    """Every change after `version`, without an end. Raises `Refused`."""
    follower = _Follower(cluster, selection, seen, version)
    is_away = False
    while True:
        began = asyncio.get_running_loop().time()
        try:
            async for change in follower.changes():
                is_away = False
                yield change
        except Refused as error:
            if error.status != _GONE:
                raise
            follower.version = ""
        except (Unavailable, msgspec.MsgspecError) as error:
            if not is_away:
                say(f"{error}; waiting for it")
            is_away, follower.version = True, ""
        if asyncio.get_running_loop().time() - began < AGAIN:
            await asyncio.sleep(
                AGAIN
            )  # whatever ended it so soon, an API server is not asked without a pause


class _Follower:
    """What is known, and from where to go on."""

    def __init__(self, cluster: Cluster, selection: Selection, seen: list[Audit], version: str) -> None:
        self.version = version
        """Empty: everything must be read anew."""
        self._cluster = cluster
        self._selection = selection
        self._known = {_key(audit): audit for audit in seen}

    async def changes(self) -> AsyncIterator[Change]:
        """Until the server ends the watch. Raises `Refused` (410: the version is too old), `Unavailable`."""
        selection = self._selection
        if not self.version:
            now, self.version = await read(self._cluster, selection)
            for change in _differences(self._known, now):
                yield change
        query = selection.query(
            resourceVersion=self.version, allowWatchBookmarks="true", timeoutSeconds=str(WATCH_SECONDS)
        )
        async for line in self._cluster.watch(audits_path(selection.namespace), query):
            event = msgspec.json.decode(line, type=_Event)
            if event.type == "ERROR":
                status = msgspec.json.decode(event.object, type=_Status)
                raise Refused(status.code, status.message)
            self.version = msgspec.json.decode(event.object, type=_Versioned).metadata.resource_version
            for change in _changes(self._known, event):
                yield change


def _changes(known: dict[tuple[str, str], Audit], event: _Event) -> Iterable[Change]:
    if event.type == "BOOKMARK":
        return
    for audit in _readable([event.object]):
        if event.type == "DELETED":
            known.pop(_key(audit), None)
            yield Change("gone", audit)
        else:
            is_new = _key(audit) not in known
            known[_key(audit)] = audit
            yield Change("new" if is_new else "changed", audit)


def _differences(known: dict[tuple[str, str], Audit], now: list[Audit]) -> list[Change]:
    """What has changed while nobody could look; `known` becomes what is there now."""
    before, after = dict(known), {_key(audit): audit for audit in now}
    known.clear()
    known.update(after)
    changes = [Change("gone", audit) for key, audit in before.items() if key not in after]
    for key, audit in after.items():
        if key not in before:
            changes.append(Change("new", audit))
        elif before[key].metadata.resource_version != audit.metadata.resource_version:
            changes.append(Change("changed", audit))
    return changes


def _readable(raws: list[msgspec.Raw]) -> list[Audit]:
    """Without what no Audit of this version is: one odd object must not hide the others."""
    found = []
    for raw in raws:
        try:
            found.append(msgspec.json.decode(raw, type=Audit))
        except _UNREADABLE as error:
            logs.logger("audits").warning("object_not_understood", error=str(error))
    return found


def _key(audit: Audit) -> tuple[str, str]:
    return audit.metadata.namespace, audit.metadata.name
