"""What a verdict changes in an Audit, and that doing it again, or older news, changes nothing."""

from datetime import datetime
from functools import reduce
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit_writer.audit import audit_of, merge
from services.audit_writer.flips import flips_of, is_outdated, revised
from services.audit_writer.limits import MAX_SPEC_BYTES, stored_size
from services.audit_writer.sights import Sight
from services.audit_writer.telling import event_of
from services.audit_writer.turns import FlipKey, event_id, is_told
from shared import contracts
from shared.contracts import Action, FlipCause, Mode, Outcome, Reason, Result
from shared.crds import Audit, AuditState
from tests.audit_writer.decisions import DIGEST, decision, image, rejected
from tests.audit_writer.seen import CVE, HASH, STANDING, at, audit, judgement, sight, verdict, workload

OTHER = "sha256:" + "cd" * 32
NGINX = "nginx:1.27"
JUDGED: dict[str, Any] = {"bundle_hash": HASH, "list_digest": DIGEST}


def admitted(number: int = 1, outcome: Outcome = Outcome.PASS, **changes: Any) -> Audit:
    return audit(number, images=(image(outcome=outcome, **{**JUDGED, **changes}),))


def ids(*audits: Audit, sights: dict[str, Sight]) -> dict[FlipKey, str]:
    flips = {flip.key: flip for each in audits for flip in flips_of(each, sights)}
    return {key: event_id("shop", "web", flip, audits) for key, flip in flips.items()}


def now_seen(before: Audit, seen: Sight, now: datetime | None = None) -> Audit:
    sights = {NGINX: seen}
    return revised(before, sights, ids(before, sights=sights), now or at(100)) or before


def test_a_pass_that_fails_now_degrades() -> None:
    before, seen = admitted(), sight()
    [flip] = flips_of(before, {NGINX: seen})
    assert (flip.cause, flip.new_reasons) == (FlipCause.FEED, (CVE,))
    after = now_seen(before, seen)
    assert after.status.state is AuditState.DEGRADED
    assert after.spec.action == "allowed"
    assert after.spec.result == ("Image failed policy check: nginx:1.27",)
    [recorded] = after.spec.images
    assert (recorded.verdict, recorded.reasons, recorded.evaluated_at) == ("fail", (CVE,), at(60))
    turn = after.status.transitions[0]
    assert (turn.state, turn.at) == (AuditState.DEGRADED, at(100))
    assert turn.message == "Image nginx:1.27 fails its policy check: new findings; new: CVE-2026-1"
    assert is_told(turn.id, [after])


def test_back_to_pass_it_is_as_it_was() -> None:
    degraded = now_seen(admitted(), sight())
    seen = sight(Result.PASS, stored=verdict(Result.PASS, after=200))
    [flip] = flips_of(degraded, {NGINX: seen})
    assert flip.new_reasons == (CVE,)
    after = now_seen(degraded, seen, at(300))
    assert after.status.state is AuditState.ADMITTED
    assert after.spec.images[0].reasons == ()
    assert after.status.transitions[0].message.endswith("gone: CVE-2026-1")
    assert not is_outdated(after, {NGINX: seen})


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.WARN, Mode.AUDIT])
def test_a_flip_is_one_in_every_mode(mode: Mode) -> None:
    assert flips_of(admitted(), {NGINX: sight(judged=judgement(mode=mode))})


@pytest.mark.parametrize("where", ["recorded", "now"])
def test_a_whitelisted_image_is_recorded_and_not_told(where: str) -> None:
    before = admitted(whitelist_item="web" if where == "recorded" else None)
    seen = sight(whitelist_item="web" if where == "now" else "")
    assert flips_of(before, {NGINX: seen}) == ()
    after = now_seen(before, seen)
    assert after.spec.images[0].verdict == "fail"
    assert after.spec.result == ("Whitelisted release: nginx:1.27",)
    assert after.status.state is AuditState.ADMITTED
    assert len(after.status.transitions) == 1


def test_what_does_not_run_is_left_as_it_is() -> None:
    seen = sight(is_running=False)
    assert not is_outdated(admitted(), {NGINX: seen})


def test_a_rescan_that_says_the_same_writes_nothing() -> None:
    seen = sight(Result.PASS, stored=verdict(Result.PASS, after=5000, revision=99))
    assert not is_outdated(admitted(), {NGINX: seen})


def test_a_new_bundle_that_says_the_same_is_recorded_and_not_told() -> None:
    seen = sight(
        judged=judgement(bundle_hash="new"), stored=verdict(Result.PASS, bundle_hash="new", after=200)
    )
    assert flips_of(admitted(), {NGINX: seen}) == ()
    after = now_seen(admitted(), seen)
    assert after.spec.images[0].bundle_hash == "new"
    assert len(after.status.transitions) == 1


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (sight(), FlipCause.FEED),
        (sight(judged=judgement(bundle_hash="new"), stored=verdict(bundle_hash="new")), FlipCause.BUNDLE),
        (sight(stored=verdict(digest=OTHER, list_digest=OTHER)), FlipCause.TAG),
        (sight(judged=judgement(bundle_id="strict")), FlipCause.POLICY),
        (sight(judged=judgement(tenant="team-a")), FlipCause.POLICY),
    ],
)
def test_causes(seen: Sight, cause: FlipCause) -> None:
    [flip] = flips_of(admitted(), {NGINX: seen})
    assert flip.cause is cause


@pytest.mark.parametrize(
    ("runs", "recorded"),
    [({DIGEST}, DIGEST), ({OTHER}, OTHER), ({DIGEST, OTHER}, DIGEST), (set(), DIGEST)],
)
def test_the_digest_follows_what_runs_not_the_tag(runs: set[str], recorded: str) -> None:
    seen = sight(stored=verdict(digest=OTHER, list_digest=OTHER), digests=frozenset(runs))
    assert now_seen(admitted(), seen).spec.images[0].digest == recorded


def test_a_refusal_that_came_later_stands_and_what_runs_still_flips() -> None:
    before = merge(admitted(1), audit_of(rejected(2), STANDING))
    assert before.status.state is AuditState.REJECTED
    passing = sight(Result.PASS, stored=verdict(Result.PASS, after=200))
    after = now_seen(before, passing)
    assert (after.status.state, after.spec.images[0].verdict) == (AuditState.REJECTED, "pass")


@pytest.mark.parametrize(
    "later",
    [
        rejected(90),
        decision(90, images=(image(outcome=Outcome.FAIL, mode=Mode.AUDIT),)),
        decision(90, images=(image(outcome=Outcome.FAIL, grace_until=at(9999)),)),
    ],
)
def test_a_decision_that_recorded_the_turn_first_hides_no_flip(later: contracts.AdmissionDecided) -> None:
    overtaken = merge(admitted(1), audit_of(later, STANDING))
    seen = sight(stored=verdict(after=60))
    [flip] = flips_of(overtaken, {NGINX: seen})
    assert flip.sight.result is Result.FAIL
    assert not is_outdated(now_seen(overtaken, seen), {NGINX: seen})


def test_what_failed_before_it_was_let_in_is_no_flip() -> None:
    before = admitted(90, Outcome.FAIL, mode=Mode.AUDIT)
    assert flips_of(before, {NGINX: sight(stored=verdict(after=60))}) == ()


def test_a_later_decision_that_passes_does_not_hide_the_flip_back() -> None:
    degraded = now_seen(admitted(1), sight())
    again = merge(degraded, admitted(200))
    assert again.status.state is AuditState.ADMITTED
    seen = sight(Result.PASS, stored=verdict(Result.PASS, after=150))
    [flip] = flips_of(again, {NGINX: seen})
    assert flip.sight.result is Result.PASS
    assert flips_of(now_seen(again, seen, at(300)), {NGINX: seen}) == ()


def test_a_new_pod_let_in_with_a_warning_leaves_it_degraded() -> None:
    degraded = now_seen(admitted(1), sight())
    again = merge(degraded, admitted(200, Outcome.FAIL, mode=Mode.WARN))
    assert again.status.state is AuditState.ADMITTED
    assert flips_of(again, {NGINX: sight()}) == ()
    assert now_seen(again, sight(), at(300)).status.state is AuditState.DEGRADED


def test_of_two_images_the_last_to_pass_again_recovers() -> None:
    both = audit(images=(image(**JUDGED), image("redis:7", **JUDGED)))
    fails = {NGINX: sight(), "redis:7": sight(image="redis:7")}
    degraded = revised(both, fails, ids(both, sights=fails), at(100))
    assert degraded is not None
    assert len(degraded.status.transitions) == 3
    for name, state in ((NGINX, AuditState.DEGRADED), ("redis:7", AuditState.ADMITTED)):
        fails = {**fails, name: sight(Result.PASS, image=name, stored=verdict(Result.PASS, after=200))}
        degraded = revised(degraded, fails, ids(degraded, sights=fails), at(300))
        assert degraded is not None
        assert degraded.status.state is state


def test_a_flip_that_nobody_was_told_of_is_not_written() -> None:
    assert revised(admitted(), {NGINX: sight()}, {}, at(100)) is None


def test_the_id_is_the_same_before_and_after_part_of_the_group_was_written() -> None:
    one, other, seen = admitted(1), admitted(2), sight()
    sights = {NGINX: seen}
    first = ids(one, other, sights=sights)
    written = now_seen(one, seen) if first == ids(one, sights=sights) else None
    assert written is not None
    assert ids(written, other, sights=sights) == first
    assert is_told(first[sight().judgement.key, Result.FAIL], [written, other])


def test_a_policy_switched_there_and_back_over_standing_verdicts_flips_each_time() -> None:
    strict = sight(judged=judgement(bundle_id="strict"), stored=verdict(after=-500, bundle_id="strict"))
    loose = sight(Result.PASS, stored=verdict(Result.PASS, after=-900))
    told: list[str] = []
    now = admitted()
    for number, seen in enumerate((strict, loose, strict, loose)):
        found = ids(now, sights={NGINX: seen})
        told += found.values()
        assert not is_told(told[-1], [now])
        now = now_seen(now, seen, at(100 + number))
    assert len(set(told)) == 4


def test_the_event_names_all_workloads_and_stays_a_message() -> None:
    [flip] = flips_of(admitted(), {NGINX: sight(judged=judgement(policy="prod"))})
    many = [workload(f"web-{number}") for number in range(200)]
    event = event_of(flip, "an-id", many, at(100))
    assert (event.workloads_total, len(event.workloads)) == (200, 50)
    assert (event.namespace, event.release, event.policy) == ("shop", "web", "prod")
    assert (event.result, event.cause, event.new_reasons) == (Result.FAIL, FlipCause.FEED, (CVE,))
    assert contracts.decode(contracts.encode(event), contracts.VERDICT_FLIPPED) == event


def test_an_audit_keeps_its_bound_whatever_the_verdicts_say() -> None:
    nasty = tuple(Reason(gate="<" * 100, trigger="t", action="stop", text="<&>" * 130) for _ in range(40))
    names = [f"app:{number}" for number in range(300)]
    huge = audit(images=tuple(image(name, Outcome.PENDING) for name in names))
    fails = {name: sight(image=name, stored=verdict(reasons=nasty)) for name in names}
    after = revised(huge, fails, ids(huge, sights=fails), at(100))
    assert after is not None
    assert stored_size(after.spec) <= MAX_SPEC_BYTES


results = st.sampled_from([Result.PASS, Result.FAIL])
sightings = st.builds(
    lambda result, after, bundle, digest, runs, item: sight(
        judged=judgement(bundle_id=bundle),
        stored=verdict(result, after=after, bundle_id=bundle, digest=digest, list_digest=digest),
        is_running=runs,
        whitelist_item=item,
    ),
    results,
    st.integers(-50, 500),
    st.sampled_from(["default-policy", "strict"]),
    st.sampled_from([DIGEST, OTHER]),
    st.booleans(),
    st.sampled_from(["", "web"]),
)
outcomes = st.sampled_from(list(Outcome))
decisions = st.builds(
    lambda number, outcome, action: decision(
        number, action=action, images=(image(outcome=outcome, **JUDGED),)
    ),
    st.integers(1, 50),
    outcomes,
    st.sampled_from([Action.ALLOWED, Action.REJECTED]),
)


@given(before=decisions, seen=sightings)
def test_applying_it_twice_changes_nothing(before: contracts.AdmissionDecided, seen: Sight) -> None:
    once = now_seen(audit_of(before, STANDING), seen)
    assert not is_outdated(once, {NGINX: seen})


@given(some=st.lists(decisions, min_size=1, max_size=6), seen=sightings, more=st.lists(st.integers(0, 5)))
def test_a_replay_of_older_decisions_changes_nothing(
    some: list[contracts.AdmissionDecided], seen: Sight, more: list[int]
) -> None:
    audits = [audit_of(each, STANDING) for each in some]
    flipped = now_seen(reduce(merge, audits), seen, at(1000))
    replayed = reduce(merge, (audits[each % len(audits)] for each in more), flipped)
    assert msgspec.json.encode(replayed.spec) == msgspec.json.encode(flipped.spec)
    assert replayed.status.state is flipped.status.state
    assert flips_of(replayed, {NGINX: seen}) == ()
