"""Whatever comes in whatever order, together or apart, written or not: the same Audit in the end."""

import asyncio
from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.audit_writer.audit import Standing, audit_of, merge
from services.audit_writer.folds import Folds
from services.audit_writer.metrics import AuditWriterMetrics
from shared.contracts import Action, AdmissionDecided, Outcome
from shared.crds import Audit, OwnerReference
from tests.audit_writer.decisions import decision, image
from tests.audit_writer.in_memory import AuditsInMemory, OwnersSaid
from tests.support.virtual_time import VirtualLoop

NAME = "replicaset-web"
OWNED = Standing(
    name=NAME, owner=OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web", uid="owner-uid")
)


@st.composite
def decided(draw: st.DrawFn) -> AdmissionDecided:
    """Few outcomes and much the same moments, so that most decisions say what the Audit says already."""
    failing = draw(st.booleans())
    return decision(
        draw(st.integers(0, 30)),
        after=draw(st.integers(0, 1500)),
        operation=draw(st.sampled_from(["CREATE", "CREATE", "UPDATE"])),
        action=Action.REJECTED if failing else Action.ALLOWED,
        images=(image(f"app:{draw(st.integers(0, 2))}", Outcome.FAIL if failing else Outcome.PASS),),
    )


ARRIVALS = st.lists(
    st.tuples(decided(), st.sampled_from([0.0, 0.0, 0.05, 0.5, 2.0])), min_size=1, max_size=30
)
"""Decisions, and the seconds until the next one arrives."""


async def arrive(arrivals: list[tuple[AdmissionDecided, float]]) -> tuple[Audit, Audit, int]:
    """What is stored in the end, what the process knows of it, and how many writes it took."""
    cluster = AuditsInMemory()
    folding = Folds(cluster, OwnersSaid(OWNED), AuditWriterMetrics(CollectorRegistry()))
    async with asyncio.TaskGroup() as group:
        for each, pause in arrivals:
            group.create_task(folding.fold(audit_of(each, OWNED)))
            await asyncio.sleep(pause)
    stored = cluster.one(NAME)
    assert stored
    seen: list[Audit] = []

    def look(found: Audit) -> None:
        seen.append(found)

    await folding.change("shop", NAME, look)
    return stored, seen[0], cluster.writes[NAME]


def outcomes(audit: Audit) -> set[str]:
    return {each.outcome for each in audit.status.transitions}


@given(ARRIVALS, st.data())
@settings(max_examples=150, deadline=None)
def test_any_order_and_any_replay_end_in_the_same_audit(
    arrivals: list[tuple[AdmissionDecided, float]], data: st.DataObject
) -> None:
    expected = reduce(merge, (audit_of(each, OWNED) for each, _ in arrivals))
    again = data.draw(st.permutations(arrivals + data.draw(st.lists(st.sampled_from(arrivals), max_size=10))))
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        stored, known, writes = runner.run(arrive(again))
    assert known == expected
    assert stored.metadata.labels == expected.metadata.labels
    assert stored.spec == expected.spec
    assert stored.status.state == expected.status.state
    assert stored.status.summary == expected.status.summary
    assert outcomes(stored) == outcomes(expected)
    behind = expected.status.last_seen - stored.status.last_seen
    assert behind.total_seconds() < 600
    assert writes <= 1 + len(again)
