"""The shapes of Anchore Engine's API v1: only the fields that are used, checked at run time.

Source: the Engine's OpenAPI document (`anchore_engine/services/apiext/swagger/swagger.yaml`, API 0.2).
"""

from typing import Annotated, Any

import msgspec

Digest = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+:[0-9a-f]{64,128}(?!\n)$")]
"""It becomes part of a path and of verdicts, so it must look like one. To Python a `$` alone also stands before a last
line break, hence the lookahead."""

ListDigest = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]+:[0-9a-f]{64,128})?(?!\n)$")]
"""Likewise, or empty: a single manifest was found through no list."""


class ImageDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One tag of an image record."""

    fulltag: str | None = None
    fulldigest: str | None = None


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An image as POST /images and GET /images/{digest} tell of it."""

    image_digest: Digest = msgspec.field(name="imageDigest")
    parent_digest: ListDigest | None = msgspec.field(name="parentDigest", default=None)
    analysis_status: str
    image_detail: list[ImageDetail] | None = None


class PolicyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A policy bundle as GET /policies lists it."""

    policy_id: str = msgspec.field(name="policyId")
    active: bool = False
    policybundle: dict[str, Any] | None = None


class GateTable(msgspec.Struct, frozen=True, kw_only=True):
    """The findings: a header that names the columns, and rows."""

    header: list[str] = []
    rows: list[list[Any]] = []


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """Wrapper of the table, one an image id."""

    result: GateTable


class EvaluationResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an evaluation. A rule that matched is an object, else `false`."""

    final_action: str = ""
    final_action_reason: str = ""
    matched_mapping_rule: bool | dict[str, Any] | None = None
    matched_blacklisted_images_rule: bool | dict[str, Any] | None = None
    matched_whitelisted_images_rule: bool | dict[str, Any] | None = None
    result: dict[str, GateResult | list[Any] | str | float | bool | None] = {}
    """By image id; keys such as `policy_data` stand beside it."""


class EvaluationDetail(msgspec.Struct, frozen=True, kw_only=True):
    """`{}` when no detail was asked for."""

    result: EvaluationResult | None = None
    policy: dict[str, Any] | None = None
    """The bundle as it was evaluated."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation of an image and tag under a bundle."""

    status: str
    policy_id: str = msgspec.field(name="policyId")
    detail: EvaluationDetail = EvaluationDetail()


CheckAnswer = list[dict[str, dict[str, list[Evaluation]]]]
"""`[{digest: {fulltag: [evaluation]}}]`, keyed by the platform's digest."""


IMAGES = msgspec.json.Decoder(list[ImageRecord])
POLICIES = msgspec.json.Decoder(list[PolicyRecord])
CHECK = msgspec.json.Decoder(CheckAnswer)
