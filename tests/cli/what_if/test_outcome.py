"""What becomes of images and releases, without anybody to ask."""

from datetime import UTC, datetime

import msgspec
import pytest

from services.audit_writer.running import RunningImage, Workload
from services.cli.manifest.judging import Rules
from services.cli.what_if.command import _code
from services.cli.what_if.judging import Compared
from services.cli.what_if.outcome import Fate, by_release, seen, standing
from services.cli.what_if.uses import Scene, Use, uses
from services.scanner.evaluation import Judged
from shared.contracts import ContainerKind, Mode, OwnerClaim, Reason, Result, TenantRecord
from shared.policies import OnError, OnPending, Policies, Rule
from shared.whitelist import Whitelist

NOW = datetime(2026, 11, 23, tzinfo=UTC)
A, B = (f"sha256:{each * 64}" for each in "ab")
RULE = Rule(mode=Mode.ENFORCE, on_pending=OnPending.RETRY, on_error=OnError.DENY)
PASS, FAIL = Result.PASS, Result.FAIL
OLD, NEW = (
    Reason(gate="g", trigger="t", action="stop", text=each, trigger_id=each) for each in ("old", "new")
)
WARNING = Reason(gate="g", trigger="t", action="warn", text="warning")


def judged(result: Result, *reasons: Reason) -> Judged:
    return Judged(result, list(reasons), is_unmapped=False)


PLAIN = Use(
    namespace="shop",
    release="web",
    workload="ReplicaSet/web-1",
    container="main",
    container_kind=ContainerKind.CONTAINER,
    image="nginx",
    reference="docker.io/library/nginx:latest",
    digest=A,
    rule=RULE,
    bundle="strict",
)


def use(**more: object) -> Use:
    return msgspec.structs.replace(PLAIN, **more)


@pytest.mark.parametrize(
    ("before", "after", "let_in_by", "fate"),
    [
        (PASS, PASS, "", Fate.PASSES),
        (PASS, PASS, "item", Fate.PASSES),
        (PASS, FAIL, "", Fate.BREAKS),
        (PASS, FAIL, "item", Fate.LET_IN),
        (FAIL, FAIL, "", Fate.FAILS),
        (FAIL, PASS, "", Fate.MENDED),
    ],
)
def test_what_becomes_of_an_image(before: Result, after: Result, let_in_by: str, fate: Fate) -> None:
    one = use(let_in_by=let_in_by)
    found = seen(one, None, {one.subject: Compared(before=judged(before), after=judged(after))})
    assert found.fate is fate


def test_only_what_newly_stops_it_is_told() -> None:
    one = use()
    both = Compared(before=judged(PASS, WARNING), after=judged(FAIL, WARNING, NEW))
    assert seen(one, None, {one.subject: both}).newly == (NEW,)
    known = Compared(before=judged(PASS, OLD), after=judged(FAIL, OLD, NEW))
    assert seen(one, None, {one.subject: known}).newly == (NEW,)
    same = Compared(before=judged(PASS, OLD), after=judged(FAIL, OLD))
    assert seen(one, None, {one.subject: same}).newly == (OLD,)
    failing = Compared(before=judged(FAIL, OLD), after=judged(FAIL, OLD, NEW))
    assert seen(one, None, {one.subject: failing}).newly == ()


def test_a_grace_is_told() -> None:
    one = use(rule=msgspec.structs.replace(RULE, incumbent_grace=86400.0 * 3, policy="p"))
    found = seen(one, None, {one.subject: Compared(before=judged(PASS), after=judged(FAIL, NEW))})
    assert (found.fate, found.why) == (Fate.BREAKS, "after incumbentGrace 3d of ImagePolicy p")


@pytest.mark.parametrize(
    ("more", "fate", "why"),
    [
        ({"aside": "mode off"}, Fate.ASIDE, "mode off"),
        ({"reference": ""}, Fate.UNKNOWN, "it is no image reference"),
        ({"digest": ""}, Fate.UNKNOWN, "no kubelet has reported its digest, and no Audit has one"),
        ({"bundle": "other"}, Fate.ASIDE, "judged by bundle other, by the defaults"),
        ({"bundle": ""}, Fate.ASIDE, "judged by no bundle, by the defaults"),
    ],
)
def test_what_is_not_asked_about(more: dict[str, object], fate: Fate, why: str) -> None:
    assert standing(use(), {"default": "strict"}, {}) is None
    assert standing(use(**more), {"default": "strict"}, {}) == (fate, why)
    assert standing(use(), {}, {"default": "away"}) == (Fate.UNKNOWN, "away")


def test_the_gravest_image_is_the_release() -> None:
    fates = [Fate.PASSES, Fate.UNKNOWN, Fate.BREAKS]
    found = [seen(use(release=name), (fate, ""), {}) for name, fate in zip("abc", fates, strict=True)]
    more = seen(use(release="a", image="redis"), (Fate.FAILS, ""), {})
    releases = by_release([*found, more])
    assert [(each.name, each.fate) for each in releases] == [
        ("c", Fate.BREAKS),
        ("b", Fate.UNKNOWN),
        ("a", Fate.FAILS),
    ]
    assert releases[2].count(Fate.PASSES) == 1


def test_what_cannot_be_refused_need_not_be_known() -> None:
    unknown = seen(use(), (Fate.UNKNOWN, "x"), {})
    listed = seen(use(let_in_by="item"), (Fate.UNKNOWN, "x"), {})
    assert _code(by_release([unknown])) == 3
    assert _code(by_release([listed])) == 0
    assert _code(by_release([unknown, seen(use(), (Fate.BREAKS, ""), {})])) == 1


def test_each_digest_counts_and_an_audit_lends_one() -> None:
    rules = Rules(
        policies=Policies([], RULE),
        whitelist=Whitelist(cluster_wide=True),
        labels={"shop": {}},
        release_labels=(),
    )
    images = (
        RunningImage(
            container="main",
            container_kind=ContainerKind.CONTAINER,
            image="nginx",
            reference="docker.io/library/nginx:latest",
            digests=frozenset({A, B}),
        ),
        RunningImage(
            container="data",
            container_kind=ContainerKind.VOLUME,
            image="data:1",
            reference="docker.io/library/data:1",
        ),
    )
    workload = Workload(
        namespace="shop",
        audit="replicaset-web-1",
        owner=OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name="web-1", uid="u"),
        release="web",
        release_matched="web",
        fake_release=False,
        pods=2,
        images=images,
    )
    known = {("shop", "replicaset-web-1", "data:1"): B}
    scene = Scene(workloads=(workload,), rules=rules, unasked=frozenset(), judged_digests=known)
    record = TenantRecord(tenant="default", active_bundle_id="strict", bundles={"strict": ""}, read_at=NOW)
    found = uses(scene, {"default": record}.get, NOW)
    assert [(each.image, each.digest, each.bundle) for each in found] == [
        ("nginx", A, "strict"),
        ("nginx", B, "strict"),
        ("data:1", B, "strict"),
    ]
