"""The model behaves as arithmetic says wherever arithmetic can say it."""

import math

import msgspec
import pytest

from tests.bench import simulation
from tests.bench.simulation import STEP, Restart

WARM = Restart(pods=20_000, rate=1_000, admission=0.001, replicas=2)
"""Two gateways bear 2,000 a second."""


def test_enough_gateways_let_all_in_as_fast_as_they_come() -> None:
    outcome = simulation.run(WARM)
    assert outcome.seconds == pytest.approx(20, abs=STEP)
    assert (outcome.queue, outcome.delay, outcome.lost) == (0, 0, 0)
    assert outcome.attempts == pytest.approx(WARM.pods)


def test_a_queue_grows_by_what_comes_too_much() -> None:
    overloaded = msgspec.structs.replace(WARM, rate=2_500)
    outcome = simulation.run(overloaded)
    seconds = WARM.pods / 2_500
    assert outcome.queue == pytest.approx(500 * seconds, rel=0.02)
    assert outcome.delay == pytest.approx(outcome.queue / 2_000)


def test_one_gateway_too_few_for_long_loses_answers_and_never_ends() -> None:
    drowned = msgspec.structs.replace(WARM, pods=100_000, replicas=1, rate=4_000)
    outcome = simulation.run(drowned)
    assert outcome.lost > 0
    assert math.isinf(outcome.seconds)


@pytest.mark.parametrize("known", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scanners", [1, 4])
def test_nobody_is_lost_and_nobody_made_up(known: float, scanners: int) -> None:
    cold = msgspec.structs.replace(WARM, known=known, images=200, scans=20, scanners=scanners)
    outcome = simulation.run(cold)
    assert outcome.admitted == pytest.approx(WARM.pods)
    assert outcome.attempts >= WARM.pods * (1 - 1e-9)
    assert [pods for _, pods, *_ in outcome.course] == sorted(pods for _, pods, *_ in outcome.course)


def test_scans_take_what_they_take_and_the_last_pod_waits_for_its_back_off_at_most() -> None:
    cold = msgspec.structs.replace(WARM, pods=5_000, known=0.0, images=300, scans=5)
    outcome = simulation.run(cold)
    scanned = 300 / 5
    assert scanned <= outcome.seconds <= scanned + 5 + simulation.LAST_BACK_OFF + 1


def test_more_scanners_help_until_anchores_limit() -> None:
    cold = msgspec.structs.replace(WARM, known=0.0, images=500, scans=10)
    ends = [
        simulation.run(msgspec.structs.replace(cold, scanners=count, anchore=20.0)).seconds
        for count in (1, 2, 4)
    ]
    assert ends[0] > ends[1] == ends[2]


def test_the_gateways_needed_are_the_fewest_that_keep_up() -> None:
    restart = msgspec.structs.replace(WARM, rate=2_500, pods=100_000)
    needed = simulation.replicas_needed(restart)
    assert needed == 3
    assert simulation.run(msgspec.structs.replace(restart, replicas=needed)).delay <= 0.5
    assert simulation.run(msgspec.structs.replace(restart, replicas=needed - 1)).delay > 0.5
