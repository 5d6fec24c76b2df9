"""What was called: by operation, and by operation and image. Tests assert on it that nobody asks more than needed."""

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping

import msgspec

from deploy.dev.anchore import references
from deploy.dev.anchore.wire import JsonObject

_KEPT = 10_000
"""Calls that the journal keeps; load tests make more."""


class Seen(msgspec.Struct, frozen=True):
    """One call."""

    at: float
    operation: str
    images: tuple[str, ...]
    """The tags and digests it was for, as the caller wrote them."""
    account: str | None
    status: int
    """0: the connection was dropped."""


class Counters:
    """Counts since the start or the last reset."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.images: Counter[tuple[str, str]] = Counter()
        self.journal: deque[Seen] = deque(maxlen=_KEPT)
        self.concurrent = 0
        self.most_concurrent = 0
        """The most calls that were ever in hand at once."""

    def note(self, seen: Seen) -> None:
        """Count one call."""
        self.calls[seen.operation] += 1
        for image in seen.images:
            self.images[seen.operation, image] += 1
        self.journal.append(seen)

    def reset(self) -> None:
        """Forget all calls so far."""
        self.calls.clear()
        self.images.clear()
        self.journal.clear()
        self.most_concurrent = self.concurrent

    def show(self) -> dict[str, object]:
        """As GET /simulator answers it."""
        images: dict[str, dict[str, int]] = {}
        for (operation, image), count in self.images.items():
            images.setdefault(image, {})[operation] = count
        return {"calls": dict(self.calls), "images": images, "most_concurrent": self.most_concurrent}


def named_images(path: Mapping[str, str], query: Mapping[str, str], text: bytes) -> tuple[str, ...]:
    """The images that a call is about, for counters and faults: digest, tag as written, tag in full."""
    tag = query.get("tag") or query.get("fulltag") or query.get("full_tag")
    try:
        body = json.loads(text) if text else None
    except ValueError:
        body = None
    named = [path.get("digest"), path.get("image_id"), tag, *_in_body(body if isinstance(body, dict) else {})]
    written = [name for name in named if isinstance(name, str) and name]
    in_full = [references.read_leniently(name).name for name in written if not name.startswith("sha256:")]
    return tuple(dict.fromkeys([*written, *in_full]))


def _in_body(body: JsonObject) -> Iterator[object]:
    yield from (body.get("tag"), body.get("digest"))
    source = body.get("source")
    for inner in source.values() if isinstance(source, dict) else ():
        if isinstance(inner, dict):
            yield from (inner.get(name) for name in ("pullstring", "pull_string", "tag"))
