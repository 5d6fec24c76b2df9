"""Following a kind of object: list once, then watch, for ever, with the list repeated only when it must be.

A watch ends (every few minutes, by the server), breaks (network, API server restart) or grows too old
(410): it is resumed from the last bookmark or, after a 410, from a new list. What is missing is a matter
for whoever is fed: between list and list the feed keeps what it had.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Generic, Protocol, TypeVar

import msgspec

from shared import logs
from shared.cluster import Cluster, ListMeta, pages
from shared.errors import MoorgateError, Refused
from shared.objects import ObjectMeta

WATCH_SECONDS = 240
"""Seconds the server is asked to keep a watch open."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
"""Seconds before trying again after an error, doubled each time."""

_GONE = 410
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises; a proxy's page or a torn line must not end the watch, nor the process with it."""


class _Versioned(Protocol):
    @property
    def resource_version(self) -> str | None: ...


class Watched(Protocol):
    """An object of a followed kind."""

    @property
    def metadata(self) -> _Versioned: ...  # noqa: D102


W = TypeVar("W", bound=Watched)


class Feed(Protocol[W]):
    """Whoever is told."""

    def replace(self, items: list[W]) -> None:
        """These are all there are."""

    def put(self, item: W) -> None:
        """This one is new or changed."""

    def remove(self, item: W) -> None:
        """This one is gone."""


class PagedFeed(Feed[W], Protocol[W]):
    """Whoever is told of a list as it is read: a hundred thousand objects at once would stop everything else."""

    def begin(self) -> None:
        """A list begins, for the first time or anew; what there was goes on counting."""

    def add(self, items: list[W]) -> None:
        """These are there."""

    def end(self) -> None:
        """The list was read to its end: what it did not have is gone."""


class Watch(Generic[W]):
    """One kind, one feed."""

    def __init__(
        self, cluster: Cluster, path: str, kind: type[W], feed: Feed[W], *, selector: str = ""
    ) -> None:
        """`selector`: only objects with these labels; one that loses them is gone."""
        self.ready = asyncio.Event()
        """Set once the feed has had a whole list."""
        self._cluster = cluster
        self._path = path
        self._kind = kind
        self._feed = feed
        self._selected = {"labelSelector": selector} if selector else {}
        self._item = msgspec.json.Decoder(kind)
        self._page = msgspec.json.Decoder(_Page)
        self._event = msgspec.json.Decoder(_Event)
        self._log = logs.logger("watch").bind(path=path)

    async def run(self) -> None:
        """Feed until cancelled."""
        version, wait = "", FIRST_WAIT
        while True:
            try:
                version = version or await self._list()
                began = asyncio.get_running_loop().time()
                version = await self._watch(version)
                wait = FIRST_WAIT
                if asyncio.get_running_loop().time() - began < FIRST_WAIT:
                    await asyncio.sleep(
                        FIRST_WAIT
                    )  # a server that ends every watch at once is left some peace
            except (MoorgateError, *_UNREADABLE) as error:
                if isinstance(error, Refused) and error.status == _GONE:
                    version = ""
                self._log.warning("watch_interrupted", error=str(error), again_in=wait)
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    async def _list(self) -> str:
        """Everything, in pages; gives the version to watch from."""
        items: list[W] = []
        version = ""
        async for page, listed in self._pages():
            items += page
            version = listed
        self._feed.replace(items)
        self.ready.set()
        self._log.debug("listed", items=len(items))
        return version

    async def _pages(self) -> AsyncIterator[tuple[list[W], str]]:
        """The pages of one list, each with the version that the list stands for."""
        async for page in pages(self._cluster, self._path, self._page.decode, **self._selected):
            yield list(self._readable(page.items)), page.metadata.resource_version

    async def _watch(self, version: str) -> str:
        """Changes since `version`, until the server ends the watch; gives the version to go on from."""
        query = {
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            **self._selected,
        }
        async for line in self._cluster.watch(self._path, query):
            event = self._event.decode(line)
            if event.type == "ERROR":
                status = msgspec.json.decode(event.object, type=_Status)
                raise Refused(status.code, status.message)
            version = self._take(event) or version
        return version

    def _take(self, event: "_Event") -> str:
        """Feed one change; gives the version it stands for."""
        if event.type == "BOOKMARK":
            return msgspec.json.decode(event.object, type=_Bookmark).metadata.resource_version
        for item in self._readable([event.object]):
            if event.type == "DELETED":
                self._feed.remove(item)
            else:
                self._feed.put(item)
            return item.metadata.resource_version or ""
        return ""

    def _readable(self, raws: list[msgspec.Raw]) -> Iterator[W]:
        """Without what our Struct cannot hold: one odd object must not blind the whole watch."""
        for raw in raws:
            try:
                yield self._item.decode(raw)
            except _UNREADABLE as error:
                self._log.warning("object_not_understood", error=str(error))


class PagedWatch(Watch[W]):
    """The same for a feed that takes lists page by page."""

    def __init__(self, cluster: Cluster, path: str, kind: type[W], feed: PagedFeed[W]) -> None:
        super().__init__(cluster, path, kind, feed)
        self._paged = feed

    async def _list(self) -> str:
        version = ""
        self._paged.begin()
        async for page, listed in self._pages():
            self._paged.add(page)
            version = listed
        self._paged.end()
        self.ready.set()
        return version


class _Page(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]
    metadata: ListMeta = ListMeta()


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


class _Status(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""
