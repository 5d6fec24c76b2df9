"""The shapes of Anchore Enterprise's API v2: only the fields that are used, checked at run time.

Source: the OpenAPI document of Anchore Enterprise (API 2.13); https://docs.anchore.com/current/docs/reference/api/
"""

from typing import Any, Literal

import msgspec

from services.scanner.anchore_v1_api import Digest, ListDigest


class ImageDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One tag of an image."""

    full_tag: str | None = None


class AnchoreImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image as POST /images and GET /images/{digest} tell of it."""

    image_digest: Digest
    parent_digest: ListDigest | None = None
    analysis_status: str
    image_detail: list[ImageDetail] | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that fired."""

    gate: str
    trigger: str
    action: str
    message: str = ""
    trigger_id: str = ""
    allowlisted: bool = False


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What led to the result; absent when no detail was asked for."""

    findings: list[Finding]
    policy: dict[str, Any] | None = None
    """As it was evaluated."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What kept the policy, or a part of it, from being evaluated."""

    severity: str
    problem_type: str = ""
    details: str = ""


class ImageRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of a list of images."""

    name: str = ""


class EvaluationResult(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation."""

    status: Literal["pass", "fail"]
    final_action_reason: str = ""
    image_mapped_to_rule: bool
    image_allowlisted: bool = False
    image_denylisted: bool = False
    matched_denylisted_images_rule: ImageRule | None = None
    evaluation_problems: list[Problem] = []
    details: Details | None = None


class PolicyEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a check: of this image and tag under this policy, newest first."""

    policy_id: str
    image_digest: str
    evaluated_tag: str
    evaluations: list[EvaluationResult]


class PolicyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A policy as GET /policies lists it."""

    policy_id: str
    active: bool = False
    policy: dict[str, Any] | None = None


IMAGE = msgspec.json.Decoder(AnchoreImage)
POLICIES = msgspec.json.Decoder(list[PolicyRecord])
CHECK = msgspec.json.Decoder(PolicyEvaluation)
