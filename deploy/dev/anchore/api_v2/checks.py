"""GET /images/{digest}/check: the same verdict as v1's, as findings instead of a table.

Guessed, for the API description is silent: `image_digest` is the platform's digest even when the list's was asked for, as v1
keys its answer; `evaluation_time` is the request's time, as v1's `last_evaluation`; a finding's `policy_id` is the rule set's
id, as in v1's rows; with `history` only the evaluations under the one policy are shown, since `policy_id` stands outside the
list; nothing is known of base images. An image that no mapping matches passes, as in v1.
"""

from deploy.dev.anchore.accounts import Evaluation
from deploy.dev.anchore.api import checks
from deploy.dev.anchore.calls import Call
from deploy.dev.anchore.evaluation import formats
from deploy.dev.anchore.evaluation.bundles import Finding, Judgement
from deploy.dev.anchore.wire import Json, JsonObject, whole_seconds

_REASONS = {"blacklisted": "denylisted", "whitelisted": "allowlisted"}


def check(call: Call) -> Json:
    """One object for the image and tag, with one evaluation or its history."""
    answer = checks.perform(call.asked({"policy_id": "policyId"}))
    policy_id = answer.policy.policy_id
    return {
        "evaluated_tag": answer.fulltag,
        "evaluations": [
            _show(evaluation, is_detailed=call.flag("detail", default=True))
            for evaluation in answer.evaluations
            if evaluation.policy_id == policy_id
        ],
        "image_digest": answer.record.image.digest,
        "policy_id": policy_id,
    }


def _show(evaluation: Evaluation, *, is_detailed: bool) -> JsonObject:
    judgement = evaluation.result.judgement
    return {
        "comparison_image_digest": None,
        "details": _details(judgement) if is_detailed else None,
        "evaluation_problems": [],
        "evaluation_time": whole_seconds(evaluation.last),
        "final_action": judgement.final,
        "final_action_reason": _REASONS.get(judgement.reason, judgement.reason),
        "image_allowlisted": judgement.whitelisted is not None,
        "image_denylisted": judgement.blacklisted is not None,
        "image_mapped_to_rule": judgement.mapping is not None,
        "matched_allowlisted_images_rule": formats.to_selection(judgement.whitelisted),
        "matched_denylisted_images_rule": formats.to_selection(judgement.blacklisted),
        "matched_mapping_rule": formats.to_mapping(judgement.mapping),
        "number_of_findings": len(judgement.findings),
        "status": judgement.status,
    }


def _details(judgement: Judgement) -> JsonObject:
    return {
        "findings": [_show_finding(finding) for finding in judgement.findings],
        "policy": formats.to_policy(judgement.bundle),
        "policy_action": judgement.judged,
        "remediations": [],
    }


def _show_finding(finding: Finding) -> JsonObject:
    pardon = finding.pardon
    match = None
    if pardon is not None:
        match = {"id": pardon["_list"], "matched_rule_id": pardon.get("id", ""), "name": pardon["_name"]}
    return {
        "action": finding.action,
        "allowlist_match": match,
        "allowlisted": pardon is not None,
        "gate": finding.gate,
        "inherited_from_base": None,
        "message": finding.match.message,
        "policy_id": finding.policy_id,
        "recommendation": finding.rule.get("recommendation") or "",
        "rule_id": finding.rule.get("id") or "",
        "trigger": formats.to_trigger(finding.trigger),
        "trigger_id": finding.match.trigger_id,
    }
