"""GET /images/{digest}/check: the verdict on one image, under one bundle, for whatever tag the caller names.

Its 404 has four meanings, told apart by the message only. Every check evaluates under the bundle as it is now, and writes:
the history keeps the newest evaluation of each bundle and final action, unless `interactive=true`.
"""

import hashlib
from typing import NamedTuple

import msgspec

from deploy.dev.anchore import references
from deploy.dev.anchore.accounts import Evaluation, Result
from deploy.dev.anchore.api.images import wanted
from deploy.dev.anchore.calls import Call
from deploy.dev.anchore.errors import no_evaluation, not_analyzed, refused
from deploy.dev.anchore.evaluation.bundles import judge, show
from deploy.dev.anchore.evaluation.subject import Subject
from deploy.dev.anchore.notifications import policy_eval
from deploy.dev.anchore.records import ANALYZED, ImageRecord, PolicyRecord
from deploy.dev.anchore.wire import Json, JsonObject, whole_seconds


def check(call: Call) -> Json:
    """Keyed by the platform's digest, even when the list's was asked for."""
    answer = perform(call)
    shown = [_show(call, evaluation) for evaluation in answer.evaluations]
    return [{answer.record.image.digest: {answer.fulltag: shown}}]


class Checked(NamedTuple):
    """What a check found, before either API has put it into its own words."""

    record: ImageRecord
    policy: PolicyRecord
    fulltag: str
    evaluations: list[Evaluation]
    """One, or with `history` any number, the newest first."""


def perform(call: Call) -> Checked:
    """The check itself; the query is v1's."""
    record = wanted(call)
    if record.status != ANALYZED:
        raise not_analyzed(record.status)
    policy = _policy(call)
    fulltag = _fulltag(call.query["tag"])
    latest = None
    if "policy_engine" not in call.engine.down:
        latest = _evaluate(call, record, policy, fulltag)
    now = [latest] if latest else []
    shown = _history(call, record, fulltag) if call.flag("history") else now
    if not shown:
        raise no_evaluation()
    return Checked(record, policy, fulltag, shown)


def _policy(call: Call) -> PolicyRecord:
    wanted_id = call.query.get("policyId")
    if wanted_id is None:
        active = call.space.active_policy()
        if active is None:
            raise refused(404, f"user has no active policy to evaluate: {call.space.account}")
        return active
    policy = call.space.policies.get(wanted_id)
    if policy is None:
        raise refused(404, f"Policy bundle {wanted_id} not found in DB")
    return policy


def _fulltag(text: str) -> str:
    """Not verified against the image; a name without a registry becomes docker.io's."""
    reference = references.read_leniently(text)
    return reference.name


def _evaluate(call: Call, record: ImageRecord, policy: PolicyRecord, fulltag: str) -> Evaluation:
    result = _computed(call, record, policy, fulltag)
    evaluation = Evaluation(policy_id=policy.policy_id, last=call.now, result=result)
    if not call.flag("interactive"):
        key = (record.image.digest, fulltag, policy.policy_id, result.judgement.final)
        _tell(call, record, evaluation, fulltag)
        call.space.history.pop(key, None)
        call.space.history[key] = evaluation
    return evaluation


def _tell(call: Call, record: ImageRecord, evaluation: Evaluation, fulltag: str) -> None:
    """A policy_eval, when the last evaluation of image and tag, under whatever bundle, ended otherwise."""
    if not call.engine.is_watched(call.space, fulltag, "policy_eval"):
        return
    before = _history(call, record, fulltag)[:1]
    if before and before[0].result.judgement.final != evaluation.result.judgement.final:
        payload = policy_eval(record, fulltag, evaluation.result.shown, before[0].result.shown)
        call.engine.notify(call.space.account, "policy_eval", payload)


def _computed(call: Call, record: ImageRecord, policy: PolicyRecord, fulltag: str) -> Result:
    """Cached by all that it depends on, as in the real server, so that `created_at` stays."""
    engine = call.engine
    content = hashlib.sha256(msgspec.json.encode(policy.bundle, order="sorted")).hexdigest()
    findings = engine.findings(record)
    state = (record.analyzed, engine.feeds.revision, findings, record.dockerfile)
    key = (record.image.digest, fulltag, content, repr(state))
    if key not in call.space.computed:
        details = record.image.content
        subject = Subject(
            image_id=record.image.image_id,
            digest=record.image.digest,
            fulltag=fulltag,
            content=details,
            dockerfile=record.dockerfile,
            dockerfile_is_actual=record.given_dockerfile is not None,
            vulnerabilities=findings,
            feed_synced_at=engine.feeds.synced_at(f"{details.distro}:{details.distro_version}"),
            now=call.now,
        )
        judgement = judge(policy.bundle, subject)
        call.space.computed[key] = Result(judgement, show(judgement, subject, call.space.account))
    return call.space.computed[key]


def _history(call: Call, record: ImageRecord, fulltag: str) -> list[Evaluation]:
    """Newest first."""
    kept = call.space.history.items()
    found = [evaluation for key, evaluation in kept if key[:2] == (record.image.digest, fulltag)]
    found.reverse()
    return sorted(found, key=lambda evaluation: evaluation.last, reverse=True)


def _show(call: Call, evaluation: Evaluation) -> JsonObject:
    detail: JsonObject = {}
    if call.flag("detail", default=True):
        detail = {"policy": evaluation.result.judgement.bundle, "result": evaluation.result.shown}
    return {
        "detail": detail,
        "last_evaluation": whole_seconds(evaluation.last),
        "policyId": evaluation.policy_id,
        "status": evaluation.result.judgement.status,
    }
