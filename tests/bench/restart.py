"""The simulation, fed with what was measured last: replicas, queues and time of a cluster-wide restart."""

from collections.abc import Mapping, Sequence

import msgspec

from tests.bench import figures, simulation
from tests.bench.figures import Figure, figure
from tests.bench.session import Session
from tests.bench.simulation import Restart

ADMISSION, SCANS = "admission: CPU per 1,000", "scanner: verdicts"
"""Measured: seconds of CPU a gateway needs for 1,000 admissions, and verdicts a second of one scanner."""

SCANNERS = 1, 4


class MissingError(RuntimeError):
    """What the model is fed with has not been measured."""


async def run(session: Session) -> Sequence[Figure]:
    """Warm: every verdict is known. Cold: none is, and the images are analysed. Raises `MissingError`."""
    found = []
    for name, restart in cases(figures.known(session.results)).items():
        session.log(f"simulation: {name}")
        found += _figures(name, restart)
    return found


def cases(known: Mapping[str, Figure]) -> dict[str, Restart]:
    """By name, each with as many gateways as it needs. Raises `MissingError`."""
    try:
        admission, scans = known[ADMISSION].value / 1000, known[SCANS].value
    except KeyError as error:
        raise MissingError(
            f"{error} has not been measured: run `make bench` with admission and scanner first"
        ) from error
    warm = Restart(admission=admission, scans=scans)
    plain = {"warm": warm} | {
        f"cold, {count} scanner{'s' if count > 1 else ''}": msgspec.structs.replace(
            warm, known=0.0, scanners=count
        )
        for count in SCANNERS
    }
    return {
        name: msgspec.structs.replace(each, replicas=simulation.replicas_needed(each))
        for name, each in plain.items()
    }


def _figures(name: str, restart: Restart) -> list[Figure]:
    outcome = simulation.run(restart)
    quantities = {
        "gateways needed": ("", float(restart.replicas)),
        "until all Pods are let in": ("s", outcome.seconds),
        "most admissions waiting": ("", outcome.queue),
        "longest wait at a gateway": ("s", outcome.delay),
        "most images waiting for a scan": ("", outcome.scans),
        "attempts a Pod": ("", outcome.attempts / restart.pods),
    }
    return [figure(f"restart: {name}, {what}", unit, [value]) for what, (unit, value) in quantities.items()]
