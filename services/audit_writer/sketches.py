"""Every Audit of the cluster, in outline: only what is held against what runs.

All of them are listed, in pages of a hundred of at most 64 KiB each, decoded to a few fields and forgotten again:
memory is a page's. To read one by one only those of what runs would cost a request each (3,000 instead of 30),
and only the list tells which are missing.
"""

from collections.abc import AsyncIterator

import msgspec

from shared.cluster import Cluster, ListMeta, pages
from shared.contracts import ContainerKind, Utc
from shared.crds import AuditState, audits_path
from shared.errors import Unavailable

PAGE = 100
"""Audits a page: at most 64 KiB each."""

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class SketchedImage(_Wire, frozen=True, kw_only=True):
    """An image with the digest that was judged."""

    container: str = ""
    container_kind: ContainerKind = ContainerKind.CONTAINER
    image: str = ""
    digest: str = ""
    list_digest: str = ""


class SketchedMeta(_Wire, frozen=True, kw_only=True):
    """Who it is, and whether it is owned."""

    name: str
    namespace: str
    owner_references: list[msgspec.Raw] = []


class SketchedSpec(_Wire, frozen=True, kw_only=True):
    """Only the images."""

    images: list[SketchedImage] = []


class SketchedTurn(_Wire, frozen=True, kw_only=True):
    """Whether something is told already."""

    id: str


class SketchedMark(_Wire, frozen=True, kw_only=True):
    """The decision it is taken from."""

    at: Utc
    attempt: bool = False


class SketchedStatus(_Wire, frozen=True, kw_only=True):
    """Where it stands."""

    state: AuditState
    last_seen: Utc
    decision: SketchedMark
    transitions: list[SketchedTurn] = []


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """One Audit in outline."""

    metadata: SketchedMeta
    status: SketchedStatus
    spec: SketchedSpec = SketchedSpec()


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    metadata: SketchedMeta


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    items: list[msgspec.Raw]
    metadata: ListMeta = ListMeta()


_PAGE = msgspec.json.Decoder(_Page)
_SKETCH, _HEAD = msgspec.json.Decoder(Sketch), msgspec.json.Decoder(_Head)


async def all_audits(cluster: Cluster) -> AsyncIterator[tuple[tuple[str, str], Sketch | None]]:
    """Namespace and name of each Audit, and its outline; None: somebody made it unreadable.

    Raises `Unavailable`, `Refused`.
    """
    try:
        async for page in pages(cluster, audits_path(), _PAGE.decode, limit=str(PAGE)):
            for item in page.items:
                yield _outline(item)
    except _UNREADABLE as error:
        raise Unavailable("kubernetes", f"a list that cannot be read: {error}") from error


def _outline(item: msgspec.Raw) -> tuple[tuple[str, str], Sketch | None]:
    metadata = _HEAD.decode(item).metadata
    try:
        sketch = _SKETCH.decode(item)
    except msgspec.MsgspecError:
        sketch = None
    return (metadata.namespace, metadata.name), sketch
