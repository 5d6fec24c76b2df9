"""Anchore Engine's API v1: three calls for a scan, one for the bundles. It translates and holds no rules.

`interactive=true` keeps a check from writing: stored evaluations collide with one another and cause notifications.
"""

from urllib.parse import quote

from services.scanner import anchore_v1_api as api
from services.scanner.anchore import NOT_PULLED_BY_TAG, Bundle, Evaluation, Image, full_tag
from services.scanner.calls import Calls, NotFound, decoded, meaning_of_404, not_understood
from shared.contracts import Reason, Result
from shared.images import ImageReference


class AnchoreV1:
    """One tenant's Engine."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def add_image(self, reference: ImageReference) -> Image:
        """Resolve the reference afresh and ask for its analysis; the known record when there is one."""
        answer = await self._calls.call("image_add", "POST", "/v1/images", body=_add_request(reference))
        return _one_image(answer)

    async def image(self, digest: str) -> Image | None:
        """The record of a digest (platform's or list's), or None."""
        try:
            answer = await self._calls.call("image_get", "GET", f"/v1/images/{quote(digest, safe=':')}")
        except NotFound:
            return None
        found = _one_image(answer)
        if digest not in {found.digest, found.list_digest}:
            raise not_understood(f"asked for {digest}, Anchore answered with {found.digest}")
        return found

    async def check(
        self, digest: str, reference: ImageReference, bundle_id: str, operation: str = "check"
    ) -> Evaluation:
        """Evaluate exactly this bundle, now, without a trace in the Engine's history."""
        query = {
            "tag": full_tag(reference),
            "policyId": bundle_id,
            "detail": "true",
            "history": "false",
            "interactive": "true",
        }
        path = f"/v1/images/{quote(digest, safe=':')}/check"
        try:
            answer = await self._calls.call(operation, "GET", path, query=query)
        except NotFound as error:
            raise meaning_of_404(error.text) from error
        found = _one_evaluation(decoded(answer, api.CHECK), digest, full_tag(reference), bundle_id)
        return translated(found)

    async def bundles(self) -> list[Bundle]:
        """All bundles of the account with their contents."""
        answer = await self._calls.call("policies_list", "GET", "/v1/policies", query={"detail": "true"})
        return [
            Bundle(bundle_id=each.policy_id, is_active=each.active, content=each.policybundle or {})
            for each in decoded(answer, api.POLICIES)
        ]


def _add_request(reference: ImageReference) -> object:
    if reference.digest is None:
        return {"tag": full_tag(reference)}
    return {
        "source": {
            "digest": {
                "pullstring": f"{reference.name}@{reference.digest}",
                "tag": full_tag(reference),
                "creation_timestamp_override": NOT_PULLED_BY_TAG,
            }
        }
    }


def _one_image(answer: bytes) -> Image:
    records = decoded(answer, api.IMAGES)
    if len(records) != 1:
        raise not_understood(f"{len(records)} image records instead of one")
    record = records[0]
    return Image(
        digest=record.image_digest,
        list_digest=record.parent_digest or record.image_digest,
        analysis_status=record.analysis_status,
        tags=frozenset(detail.fulltag for detail in record.image_detail or () if detail.fulltag),
    )


def _one_evaluation(answer: api.CheckAnswer, digest: str, tag: str, bundle_id: str) -> api.Evaluation:
    """The one evaluation that was asked for: of this digest, tag and bundle, and of no other."""
    for by_digest in answer:
        evaluations = by_digest.get(digest, {}).get(tag, [])
        for evaluation in evaluations[:1]:
            if evaluation.policy_id == bundle_id:
                return evaluation
    raise not_understood(f"the check of {digest} answers for another image, tag or bundle")


def translated(found: api.Evaluation) -> Evaluation:
    """What the Engine says, in our words. Raises `ScanFailed` for a status nobody knows."""
    try:
        result = Result(found.status.lower())
    except ValueError:
        raise not_understood(f"the check's status is {found.status!r}") from None
    detail = found.detail.result
    if detail is None:
        return Evaluation(result=result, is_mapped=None)
    is_listed = bool(detail.matched_whitelisted_images_rule or detail.matched_blacklisted_images_rule)
    return Evaluation(
        result=result,
        is_mapped=is_listed or detail.matched_mapping_rule is not False,
        reasons=tuple(_reasons(detail)),
        content=found.detail.policy,
    )


def _reasons(detail: api.EvaluationResult) -> list[Reason]:
    if detail.final_action_reason == "blacklisted":
        return [_refused_by_list(detail.matched_blacklisted_images_rule)]
    if detail.final_action_reason == "whitelisted":
        return []
    return [
        reason
        for each in detail.result.values()
        if isinstance(each, api.GateResult)
        for row in each.result.rows
        if (reason := _reason(dict(zip(each.result.header, row, strict=False))))
    ]


def _refused_by_list(rule: object) -> Reason:
    name = rule.get("name", "") if isinstance(rule, dict) else ""
    text = f"the image is on the bundle's list of refused images ({name})"
    return Reason(gate="bundle", trigger="blacklisted_images", action="stop", text=text)


def _reason(row: dict[str, object]) -> Reason | None:
    """One row of the table; rows that lead to nothing (`go`, whitelisted) are left out."""
    action = str(row.get("Gate_Action", "")).lower()
    if action == "go" or row.get("Whitelisted"):
        return None
    return Reason(
        gate=str(row.get("Gate", "")),
        trigger=str(row.get("Trigger", "")),
        action=action,
        text=str(row.get("Check_Output", "")),
        trigger_id=str(row.get("Trigger_Id", "")),
    )
