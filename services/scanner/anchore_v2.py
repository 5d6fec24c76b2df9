"""Anchore Enterprise's API v2: three calls for a scan, one for the bundles. It translates and holds no rules.

What v1 calls a bundle is a policy here; its lists of images and findings say allow and deny.
"""

from urllib.parse import quote

from services.scanner import anchore_v2_api as api
from services.scanner.anchore import NOT_PULLED_BY_TAG, Bundle, Evaluation, Image, full_tag
from services.scanner.calls import Calls, NotFound, decoded, meaning_of_404, not_understood
from shared.contracts import Reason, Result
from shared.images import ImageReference


class AnchoreV2:
    """One tenant's Enterprise."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def add_image(self, reference: ImageReference) -> Image:
        """Resolve the reference afresh and ask for its analysis; the known record when there is one."""
        answer = await self._calls.call("image_add", "POST", "/v2/images", body=_add_request(reference))
        return _image(answer)

    async def image(self, digest: str) -> Image | None:
        """The record of a digest (platform's or list's), or None."""
        try:
            answer = await self._calls.call("image_get", "GET", f"/v2/images/{quote(digest, safe=':')}")
        except NotFound:
            return None
        found = _image(answer)
        if digest not in {found.digest, found.list_digest}:
            raise not_understood(f"asked for {digest}, Anchore answered with {found.digest}")
        return found

    async def check(
        self, digest: str, reference: ImageReference, bundle_id: str, operation: str = "check"
    ) -> Evaluation:
        """Evaluate exactly this policy, now, without a trace in Anchore's history."""
        tag = full_tag(reference)
        query = {
            "tag": tag,
            "policy_id": bundle_id,
            "detail": "true",
            "history": "false",
            "interactive": "true",
        }
        path = f"/v2/images/{quote(digest, safe=':')}/check"
        try:
            answer = decoded(await self._calls.call(operation, "GET", path, query=query), api.CHECK)
        except NotFound as error:
            raise meaning_of_404(error.text) from error
        is_asked_for = (answer.image_digest, answer.evaluated_tag, answer.policy_id) == (
            digest,
            tag,
            bundle_id,
        )
        if not is_asked_for or not answer.evaluations:
            raise not_understood(f"the check of {digest} answers for another image, tag or policy")
        return translated(answer.evaluations[0])

    async def bundles(self) -> list[Bundle]:
        """All policies of the account with their contents."""
        answer = await self._calls.call("policies_list", "GET", "/v2/policies", query={"detail": "true"})
        return [
            Bundle(bundle_id=each.policy_id, is_active=each.active, content=each.policy or {})
            for each in decoded(answer, api.POLICIES)
        ]


def _add_request(reference: ImageReference) -> object:
    if reference.digest is None:
        return {"source": {"tag": {"pull_string": full_tag(reference)}}}
    return {
        "source": {
            "digest": {
                "pull_string": f"{reference.name}@{reference.digest}",
                "tag": full_tag(reference),
                "creation_timestamp_override": NOT_PULLED_BY_TAG,
            }
        }
    }


def _image(answer: bytes) -> Image:
    record = decoded(answer, api.IMAGE)
    return Image(
        digest=record.image_digest,
        list_digest=record.parent_digest or record.image_digest,
        analysis_status=record.analysis_status,
        tags=frozenset(detail.full_tag for detail in record.image_detail or () if detail.full_tag),
    )


def translated(found: api.EvaluationResult) -> Evaluation:
    """What Enterprise says, in our words. Raises `ScanFailed` for a pass that skipped a part of the policy."""
    result = Result(found.status)
    problems = [each for each in found.evaluation_problems if each.severity == "error"]
    if problems and result is Result.PASS:
        said = "; ".join(f"{each.problem_type} {each.details}" for each in problems)
        raise not_understood(f"the policy was not evaluated: {said}")
    return Evaluation(
        result=result,
        is_mapped=found.image_mapped_to_rule or found.image_allowlisted or found.image_denylisted,
        reasons=tuple(_reasons(found)),
        content=found.details.policy if found.details else None,
    )


def _reasons(found: api.EvaluationResult) -> list[Reason]:
    if found.final_action_reason == "denylisted":
        rule = found.matched_denylisted_images_rule or api.ImageRule()
        text = f"the image is on the policy's list of refused images ({rule.name})"
        return [Reason(gate="bundle", trigger="denylisted_images", action="stop", text=text)]
    if found.final_action_reason == "allowlisted" or found.details is None:
        return []
    return [
        Reason(
            gate=finding.gate,
            trigger=finding.trigger,
            action=finding.action.lower(),
            text=finding.message,
            trigger_id=finding.trigger_id,
        )
        for finding in found.details.findings
        if finding.action.lower() != "go" and not finding.allowlisted
    ]
