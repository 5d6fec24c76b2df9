"""How much of a decision an Audit holds: never over 64 KiB, whatever the Pod.

Sizes are those of the API server's JSON, which writes `<`, `>`, `&` and line separators as six bytes
each. What must go goes in steps, the same for the same decision: first findings, then the length of
texts, then images, those that led to a refusal last. The pure part of the audit-writer: no I/O.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from shared.contracts import MAX_REASONS, ImageDecision, Outcome
from shared.crds import AuditSpec

MAX_SPEC_BYTES = 40 * 1024
"""Bytes of spec. With ten transitions, metadata, conditions and managed fields an Audit stays under 64 KiB."""

MAX_TEXT, MAX_MESSAGE, MAX_NAME = 1024, 640, 512
"""Bytes of a text of the Pod's or Anchore's, of a transition's message, and of names of people and releases."""

_ESCAPED = 6
_HTML = "<>&"
_SEPARATORS = "\u2028\u2029"


class Shape(NamedTuple):
    """How much is kept: images, findings an image, bytes a text."""

    images: int
    reasons: int
    text: int

    def __str__(self) -> str:
        return f"{self.images} images, {self.reasons} findings an image, {self.text} bytes a text"


def shapes(images: int) -> Iterator[Shape]:
    """From everything to nearly nothing; the last one always fits."""
    for reasons, text in (
        (MAX_REASONS, MAX_TEXT),
        (MAX_REASONS, 512),
        (20, 384),
        (10, 256),
        (3, 192),
        (0, 128),
    ):
        yield Shape(images, reasons, text)
    while images > 1:
        images = (images + 1) // 2
        yield Shape(images, 0, 128)


def kept_images(images: tuple[ImageDecision, ...], count: int) -> tuple[ImageDecision, ...]:
    """At most `count`, in the order of the Pod; those that count against it stay longest."""
    if len(images) <= count:
        return images
    by_weight = sorted(range(len(images)), key=lambda index: (_WEIGHT[images[index].outcome], index))
    return tuple(images[index] for index in sorted(by_weight[:count]))


_WEIGHT = {
    Outcome.FAIL: 0,
    Outcome.ERROR: 1,
    Outcome.PENDING: 2,
    Outcome.PASS: 3,
    Outcome.NOT_ASKED: 4,
}


def fitted(spec: AuditSpec) -> AuditSpec:
    """`spec` with as many findings an image as fit; it fits without any, for it did before they were known.

    Where not even that is so (hundreds of images that got their digests at once), the last images give way.
    """
    fitting, left = spec, [3, 1, 0]
    while left and stored_size(fitting) > MAX_SPEC_BYTES:
        most = left.pop(0)
        images = tuple(msgspec.structs.replace(image, reasons=image.reasons[:most]) for image in spec.images)
        fitting = msgspec.structs.replace(spec, images=images)
    while stored_size(fitting) > MAX_SPEC_BYTES:
        kept = len(fitting.images) // 2
        fitting = msgspec.structs.replace(
            fitting, images=fitting.images[:kept], image=fitting.image[:kept], result=fitting.result[:kept]
        )
    return fitting


def cut(text: str, limit: int) -> str:
    """`text`, or its beginning with an ellipsis where it takes more than `limit` bytes."""
    if len(text) * _ESCAPED <= limit:
        return text
    size, fits = 0, 0
    for index, character in enumerate(text[: limit + 1]):  # no character takes less than a byte
        size += _character_size(character)
        if size > limit:
            return f"{text[:fits]}…"
        if size <= limit - len("…".encode()):
            fits = index + 1
    return text


def stored_size(struct: msgspec.Struct) -> int:
    """Bytes of `struct` in the API server's JSON."""
    encoded = msgspec.json.encode(struct)
    html = sum(encoded.count(character.encode()) for character in _HTML)
    separators = sum(encoded.count(character.encode()) for character in _SEPARATORS)
    return len(encoded) + html * (_ESCAPED - 1) + separators * (_ESCAPED - 3)


def _character_size(character: str) -> int:
    if character < " " or character in _HTML or character in _SEPARATORS:
        return _ESCAPED
    if character in '"\\':
        return 2
    return len(character.encode(errors="replace"))
