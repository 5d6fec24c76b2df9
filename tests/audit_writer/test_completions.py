"""What was decided before its verdict was known, and is completed when that lands."""

from datetime import timedelta
from typing import Any

import pytest

from services.audit_writer import completions
from services.audit_writer.audit import written_part
from services.audit_writer.flips import flips_of, is_outdated, revised
from shared import crds
from shared.contracts import Mode, Outcome, Result, TenantRecord
from shared.crds import Audit, AuditState
from tests.audit_writer.decisions import image
from tests.audit_writer.seen import BUNDLE, CVE, HASH, at, audit, judgement, normal, sight, tenant, verdict

NGINX = "nginx:1.27"


def let_in(outcome: Outcome = Outcome.PENDING, **changes: Any) -> Audit:
    return audit(images=(image(outcome=outcome, **changes), image("redis:7", Outcome.PASS)))


def test_a_verdict_that_lands_completes_the_record() -> None:
    before = let_in()
    assert before.metadata.labels[crds.COMPLETE_LABEL] == "false"
    seen = {NGINX: sight(Result.PASS, stored=verdict(Result.PASS))}
    assert flips_of(before, seen) == ()
    after = revised(before, seen, {}, at(100))
    assert after is not None
    [completed, _] = after.spec.images
    assert (completed.verdict, completed.digest, completed.bundle_hash) == (
        "pass",
        seen[NGINX].verdict.digest,
        HASH,
    )
    assert completed.evaluated_at == at(60)
    assert after.spec.result[0] == "Image passed policy check: nginx:1.27"
    assert after.status.state is AuditState.ADMITTED
    assert after.status.transitions[0].message == "The verdict is there: nginx:1.27: pass"
    assert written_part(after).metadata.labels[crds.COMPLETE_LABEL] == "true"
    assert not is_outdated(after, seen)


@pytest.mark.parametrize("outcome", [Outcome.PENDING, Outcome.ERROR])
def test_an_enforced_image_that_was_let_in_and_fails_is_a_flip(outcome: Outcome) -> None:
    [flip] = flips_of(let_in(outcome), {NGINX: sight()})
    assert flip.new_reasons == (CVE,)
    after = revised(let_in(outcome), {NGINX: sight()}, {flip.key: "an-id"}, at(100))
    assert after is not None
    assert after.status.state is AuditState.DEGRADED


@pytest.mark.parametrize("mode", [Mode.WARN, Mode.AUDIT])
def test_where_nothing_is_enforced_a_fail_is_recorded_only(mode: Mode) -> None:
    seen = {NGINX: sight(judged=judgement(mode=mode))}
    after = revised(let_in(mode=mode), seen, {}, at(100))
    assert after is not None
    assert (after.spec.images[0].verdict, after.status.state) == ("fail", AuditState.ADMITTED)
    assert not is_outdated(after, seen)


def test_of_a_whitelisted_release_a_fail_is_recorded_only() -> None:
    after = revised(let_in(whitelist_item="web"), {NGINX: sight()}, {}, at(100))
    assert after is not None
    assert (after.spec.images[0].verdict, after.status.state) == ("fail", AuditState.ADMITTED)


def test_what_does_not_run_is_completed_by_what_its_decision_was_about() -> None:
    before = let_in(bundle_id="strict", tenant="team-a")
    record = tenant("team-a", active_bundle_id="other", bundles={"strict": "ab"})
    [(name, found)] = completions.awaited(before, {"team-a": record}.get).items()
    assert name == NGINX
    assert (found.tenant, found.bundle_id, found.bundle_hash) == ("team-a", "strict", "ab")
    assert found.reference == normal(NGINX)
    after = revised(before, {NGINX: sight(judged=found, is_running=False)}, {}, at(100))
    assert after is not None
    assert (after.spec.images[0].verdict, after.status.state) == ("fail", AuditState.ADMITTED)


def test_what_was_decided_before_any_bundle_was_known_is_judged_by_the_one_that_is_active_now() -> None:
    before = let_in(Outcome.ERROR, bundle_id="", bundle_hash="")
    [found] = completions.awaited(before, lambda _: tenant()).values()
    assert (found.bundle_id, found.bundle_hash) == (BUNDLE, HASH)
    after = revised(before, {NGINX: sight(judged=found, is_running=False)}, {}, at(100))
    assert after is not None
    assert after.spec.images[0].bundle == BUNDLE


@pytest.mark.parametrize(
    ("changes", "record"),
    [
        ({"outcome": Outcome.PASS}, tenant()),
        ({"outcome": Outcome.NOT_ASKED}, tenant()),
        ({"bundle_id": ""}, tenant(active_bundle_id=None)),
        ({"image": "NO reference"}, tenant()),
        ({}, None),
    ],
)
def test_what_nobody_can_complete_is_not_awaited(
    changes: dict[str, object], record: TenantRecord | None
) -> None:
    before = audit(images=(image(**{"outcome": Outcome.PENDING, "bundle_id": BUNDLE, **changes}),))  # type: ignore[arg-type]  # each case names its own fields
    assert completions.awaited(before, lambda _: record) == {}


def test_it_is_asked_for_for_a_day() -> None:
    before = let_in()
    decided = before.status.decision.at
    assert completions.is_asked_for(before, decided + timedelta(hours=23))
    assert not completions.is_asked_for(before, decided + timedelta(hours=25))
