"""WhiteListItems on the API server, and who it takes us for: `list`, `create`, `delete` of whitelistitems.

Everybody who is logged in may ask who he is (SelfSubjectReview, Kubernetes 1.28).
"""

from typing import Any

import msgspec

from shared.cluster import Cluster, ListMeta, object_path, pages
from shared.crds import API_VERSION, WHITELIST_PATH, WhiteListItem

_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class _User(msgspec.Struct, frozen=True):
    username: str = ""


class _ReviewStatus(msgspec.Struct, frozen=True, rename="camel"):
    user_info: _User = _User()


class _Review(msgspec.Struct, frozen=True):
    status: _ReviewStatus = _ReviewStatus()


class _Page(msgspec.Struct, frozen=True):
    items: list[WhiteListItem]
    metadata: ListMeta = ListMeta()


async def username(cluster: Cluster) -> str:
    """Whom the API server takes us for. Raises `Unavailable`, `Refused`."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await cluster.request("POST", _REVIEWS, body=msgspec.json.encode(body))
    return msgspec.json.decode(answer, type=_Review).status.user_info.username


async def items(cluster: Cluster) -> list[WhiteListItem]:
    """All of them. Raises `Unavailable`, `Refused`."""
    listed = pages(cluster, WHITELIST_PATH, msgspec.json.Decoder(_Page).decode)
    return [item async for page in listed for item in page.items]


async def create(cluster: Cluster, item: WhiteListItem) -> None:
    """A new one. Raises `Conflict` where the name is taken, `Refused` (422) where it cannot be."""
    content: dict[str, Any] = {"apiVersion": API_VERSION, "kind": "WhiteListItem"}
    content |= msgspec.to_builtins(item)
    await cluster.request("POST", WHITELIST_PATH, body=msgspec.json.encode(content))


async def remove_item(cluster: Cluster, name: str) -> None:
    """It counts no more. Raises `BadSetting` for what is no name, `Refused` (404) where there is none."""
    await cluster.request("DELETE", object_path(WHITELIST_PATH, name))
