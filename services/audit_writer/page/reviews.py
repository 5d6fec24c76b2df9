"""The API server says who somebody is and what they may see: TokenReview and SubjectAccessReview.

Translates and holds no rules. What shared/cluster.py raises passes through; a token appears in no text of ours.

Sources: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/,
https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/subject-access-review-v1/
"""

from typing import TypeVar

import msgspec

from shared.cluster import Cluster
from shared.crds import GROUP
from shared.errors import Unavailable

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105  a path, no password
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


T = TypeVar("T")


class Person(msgspec.Struct, frozen=True):
    """Whom a token stands for, as the API server says."""

    username: str = ""
    """Empty in the answer about a token that is nobody's."""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class _TokenSpec(msgspec.Struct, frozen=True):
    token: str


class _TokenReview(msgspec.Struct, frozen=True, rename="camel"):
    spec: _TokenSpec
    api_version: str = "authentication.k8s.io/v1"
    kind: str = "TokenReview"


class _TokenStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: Person | None = None


class _Reviewed(msgspec.Struct, frozen=True):
    status: _TokenStatus


class _Attributes(msgspec.Struct, frozen=True):
    namespace: str
    """Empty: in all of them."""
    verb: str = "list"
    group: str = GROUP
    resource: str = "audits"


class _AccessSpec(msgspec.Struct, frozen=True, rename="camel"):
    resource_attributes: _Attributes
    user: str
    uid: str
    groups: tuple[str, ...]
    extra: dict[str, tuple[str, ...]]


class _AccessReview(msgspec.Struct, frozen=True, rename="camel"):
    spec: _AccessSpec
    api_version: str = "authorization.k8s.io/v1"
    kind: str = "SubjectAccessReview"


class _AccessStatus(msgspec.Struct, frozen=True):
    allowed: bool = False


class _Allowed(msgspec.Struct, frozen=True):
    status: _AccessStatus


_REVIEWED, _ALLOWED = msgspec.json.Decoder(_Reviewed), msgspec.json.Decoder(_Allowed)


class Reviews:
    """Asks one API server."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def who(self, token: str) -> Person | None:
        """Whose token it is; None: nobody's, or no longer. Raises `Unavailable`, `Refused`."""
        answer = await self._cluster.create(TOKEN_REVIEWS, _TokenReview(_TokenSpec(token)))
        status = _decoded(_REVIEWED, answer).status
        return status.user if status.authenticated and status.user and status.user.username else None

    async def may_list(self, person: Person, namespace: str) -> bool:
        """Whether the person may list Audits there; `namespace` empty: everywhere. Raises `Unavailable`, `Refused`."""
        spec = _AccessSpec(
            _Attributes(namespace), person.username, person.uid, person.groups, dict(person.extra)
        )
        answer = await self._cluster.create(ACCESS_REVIEWS, _AccessReview(spec))
        return _decoded(_ALLOWED, answer).status.allowed


def _decoded(decoder: "msgspec.json.Decoder[T]", answer: bytes) -> T:
    try:
        return decoder.decode(answer)
    except msgspec.MsgspecError:
        raise Unavailable("kubernetes", "its answer to a review cannot be read") from None
