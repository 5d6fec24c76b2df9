"""Flips and targets for tests, with only what a test is about spelled out."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from services.audit_writer.notifications.targets import Kind, Target
from shared.contracts import AffectedWorkload, FlipCause, Reason, Result, VerdictFlipped
from shared.settings import Secret
from tests.support.builders import BUNDLE, DIGEST, START, TAG

REASON = Reason(
    gate="vulnerabilities",
    trigger="package",
    action="stop",
    text="HIGH in libssl3 (fixed in 3.0.9)",
    trigger_id="CVE-2026-0001+libssl3",
)
WORKLOAD = AffectedWorkload(kind="ReplicaSet", name="web-5cd466fccb", audit="replicaset-web-5cd466fccb")


def flip(result: Result = Result.FAIL, **changes: Any) -> VerdictFlipped:
    """Release `web` in namespace `shop` fails now, for a new CVE."""
    plain = VerdictFlipped(
        id="5d41402abc4b2a76b9719d911017c592",
        flipped_at=START,
        tenant="default",
        image=TAG,
        digest=DIGEST,
        bundle_id=BUNDLE,
        revision=42,
        result=result,
        cause=FlipCause.FEED,
        namespace="shop",
        release="web",
        workloads=(WORKLOAD,),
        workloads_total=1,
        new_reasons=(REASON,),
        reasons_total=1,
    )
    return msgspec.structs.replace(plain, **changes)


def target(kind: Kind = Kind.WEBHOOK, url: str = "http://127.0.0.1:9/hook", **changes: Any) -> Target:
    """A target that wants everything and is tried for a day."""
    plain = Target(name=kind.value, kind=kind, url=Secret(url), give_up_after=86400.0, fires_for=3600.0)
    return msgspec.structs.replace(plain, **changes)


TEXTS = st.text(max_size=40) | st.text("&<>`@*_~|\u202e\n ", max_size=4000) | st.just("x" * 9000)
FLIPS = st.builds(
    flip,
    result=st.sampled_from(Result),
    id=TEXTS,
    image=TEXTS,
    digest=TEXTS,
    bundle_id=TEXTS,
    policy=st.none() | TEXTS,
    cause=st.sampled_from(FlipCause),
    namespace=TEXTS,
    release=TEXTS,
    workloads=st.lists(st.builds(AffectedWorkload, kind=TEXTS, name=TEXTS, audit=TEXTS), max_size=7).map(
        tuple
    ),
    workloads_total=st.integers(0, 10**9),
    new_reasons=st.lists(
        st.builds(Reason, gate=TEXTS, trigger=TEXTS, action=st.just("stop"), text=TEXTS, trigger_id=TEXTS),
        max_size=12,
    ).map(tuple),
    failing_since=st.none() | st.just(START),
)
"""Flips of any text that anybody could get into one."""
