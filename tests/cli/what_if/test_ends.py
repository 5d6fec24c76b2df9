"""However a run ends, its candidate goes: at once, or with the next run, which leaves the candidates of others alone."""

import asyncio
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.dev.anchore.faults import Fault, FaultKind
from tests.cli.what_if.conftest import STARTED_WITHIN, Stage, predefined

pytestmark = pytest.mark.cluster

GOOD = "nginx:1.25"
BY = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "code"), BY)
async def test_a_signal_ends_it_in_order(stage: Stage, number: signal.Signals, code: int) -> None:
    await stage.runs(shop=[GOOD])
    before = stage.records()
    with heeded(number):
        async with stage.under_way("deny_all") as child:
            assert stage.records() != before
            child.send_signal(number)
            out, err = await asyncio.wait_for(child.communicate(), STARTED_WITHIN)
    assert (child.returncode, out, err) == (code, b"", b"")
    assert stage.records() == before


@contextmanager
def heeded(number: signal.Signals) -> Iterator[None]:
    """Whoever runs the tests by nohup has them ignore a signal, and so would their children."""
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


async def test_what_a_killed_run_left_is_removed_by_the_next(stage: Stage, api: str) -> None:
    await stage.runs(shop=[GOOD])
    before = stage.records()
    async with stage.under_way("deny_all") as child:
        child.kill()
        await child.wait()
    [left] = stage.candidates()
    stage.simulator.set_latency(0, "check")
    answer = await stage.moorgate.given(MOORGATE_ANCHORE_API=api)(*stage.asked("reject_high"))
    assert answer.code == 0
    assert answer.trouble == (
        f"moorgate: removed {left} from Anchore (tenant default): a run that was killed had left it"
    )
    assert stage.records() == before


async def test_runs_side_by_side_leave_one_another_alone(stage: Stage) -> None:
    await stage.runs(shop=[GOOD])
    before = stage.records()
    async with stage.under_way("deny_all") as first:
        [theirs] = stage.candidates()
        stage.simulator.set_latency(0, "check")
        for bundle in ("deny_all", "block_root"):
            answer = await stage.what_if(bundle)
            assert (answer.code, answer.stderr) == (1 if bundle == "deny_all" else 0, "")
        assert stage.candidates() == [theirs]
        first.send_signal(signal.SIGINT)
        await asyncio.wait_for(first.communicate(), STARTED_WITHIN)
    assert stage.records() == before


async def test_of_another_machine_only_what_is_over_is_removed(stage: Stage) -> None:
    now = int(time.time())
    over, running, active = (
        f"moorgate-what-if-0a1b2c3d-{until}-{secrets.token_hex(8)}" for until in (now - 700, now, now - 700)
    )
    for name in (over, running, active, "moorgate-what-if", "moorgate-what-if-mine-1-2"):
        stage.add("deny_all")
        record = stage.space.policies.pop("deny_all")
        record.bundle = {**predefined("deny_all"), "id": name}
        stage.space.keep_policy(record)
    stage.space.active_policy().active = False
    stage.space.policies[active].active = True
    answer = await stage.what_if("deny_all")
    assert answer.code == 0
    said = answer.stderr.splitlines()
    assert f"moorgate: removed {over} from Anchore" in said[0]
    assert f"{active}, left by a run that was killed, cannot be removed from Anchore: 500" in said[1]
    assert {running, active, "moorgate-what-if", "moorgate-what-if-mine-1-2"} <= set(stage.space.policies)
    assert over not in stage.space.policies


async def test_an_answer_that_is_lost_leaves_nothing(stage: Stage) -> None:
    await stage.runs(shop=[GOOD])
    before = stage.records()
    stage.simulator.add_fault(Fault(operation="policy_add", kind="reset", after=True))
    answer = await stage.what_if("deny_all")
    assert answer.code == 3
    assert "anchore is away: POST /v1/policies" in answer.trouble
    assert stage.records() == before


async def test_an_anchore_that_goes_away(stage: Stage) -> None:
    await stage.runs(shop=[GOOD])
    stage.simulator.add_fault(Fault(operation="check", kind="reset", times=-1))
    stage.simulator.add_fault(Fault(operation="policy_delete", kind="reset", times=-1))
    answer = await stage.what_if("deny_all")
    assert answer.code == 3
    left, away = answer.stderr.splitlines()
    [candidate] = stage.candidates()
    assert f"{candidate} is still in Anchore (tenant default), inactive: anchore is away: " in left
    assert "the next run removes it, or delete it by hand" in left
    assert "anchore is away: GET /v1/images/" in away
    stage.simulator.faults.pending.clear()
    assert (await stage.what_if("deny_all")).code == 1
    assert stage.candidates() == []


async def test_a_stumble_of_anchore_is_waited_through(stage: Stage) -> None:
    await stage.runs(shop=[GOOD])
    stumbles: list[FaultKind] = ["too_many", "error", "no_evaluation"]
    for kind in stumbles:
        stage.simulator.add_fault(Fault(operation="check", kind=kind))
    assert (await stage.what_if("deny_all")).code == 1
