"""What a scan asks of an Anchore, whichever API it speaks, and what it gets: the words between client and worker.

The clients (anchore_v1.py, anchore_v2.py) translate into these; nothing behind them knows an API's shapes.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from shared.contracts import Reason, Result
from shared.images import ImageReference

ANALYZED, ANALYSIS_FAILED = "analyzed", "analysis_failed"
UNDER_WAY = frozenset({"not_analyzed", "analyzing"})
"""States of an analysis; both APIs have these four and no other."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image as Anchore has it."""

    digest: str
    """Of the manifest that is analysed: of a multi-arch image the platform's."""
    list_digest: str
    """Of the manifest list it was found through; the same as `digest` for a single manifest."""
    analysis_status: str
    tags: frozenset[str] = frozenset()
    """In full: `docker.io/library/nginx:1.27`."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What came of checking one image and tag under one bundle."""

    result: Result
    is_mapped: bool | None
    """A mapping or a list of images of the bundle was about this image; None: the answer does not tell."""
    reasons: tuple[Reason, ...] = ()
    """Findings that lead to something, in Anchore's order."""
    content: Mapping[str, Any] | None = None
    """The bundle as it was evaluated; None where the answer does not hold it."""


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A policy bundle of the account."""

    bundle_id: str
    is_active: bool
    content: Mapping[str, Any]


class Anchore(Protocol):
    """One tenant's Anchore.

    Every method raises `ScanFailed`, `TryAgain` (services/scanner/failures.py) and `Unavailable`.
    """

    async def add_image(self, reference: ImageReference) -> Image:
        """Resolve the reference afresh and ask for its analysis; the known record when there is one."""

    async def image(self, digest: str) -> Image | None:
        """The record of a digest (platform's or list's), or None."""

    async def check(
        self, digest: str, reference: ImageReference, bundle_id: str, operation: str = "check"
    ) -> Evaluation:
        """Evaluate exactly this bundle, now, without a trace in Anchore's history. Raises `NotAnalyzed` too.

        `operation`: the label under which the call is counted.
        """

    async def bundles(self) -> list[Bundle]:
        """All bundles of the account with their contents."""


def full_tag(reference: ImageReference) -> str:
    """The tag a reference is known by in Anchore.

    One with a digest is known by a tag made of that digest, whatever tag it also names: Anchore believes
    any tag and chooses the bundle's mapping by it, and nobody has shown that the two belong together.
    """
    tag = reference.digest.replace(":", "-") if reference.digest else reference.tag
    return f"{reference.name}:{tag}"


NOT_PULLED_BY_TAG = "2000-01-01T00:00:00Z"
"""When a tag made of a digest came to be: Anchore wants a time with it, and any serves."""
