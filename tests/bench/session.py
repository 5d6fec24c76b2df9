"""What every bench is given: a folder, how long and how often to measure, and who is told."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubeapi import KubeApi
from deploy.dev.services import ROOT
from tests.bench import processes
from tests.bench.figures import Figure
from tests.bench.pace import unit_of_work

CRDS = ROOT / "deploy" / "helm" / "moorgate" / "files" / "crds"

CONTROLLERS = ("garbage-collector-controller", "namespace-controller")
"""Nobody makes, moves or removes Pods but the benches."""

Measure = Callable[[], Awaitable["Sample"]]
Sample = Mapping[str, float]
"""What one run gave, by name."""


@dataclass(kw_only=True)
class Session:
    """One call of `make bench`."""

    folder: Path
    console: Console
    results: Path
    """Where the figures are kept."""
    rounds: int = 5
    seconds: float = 5.0
    """How long one side of a pair is measured."""
    scale: float = 1.0
    """Part of the full size; below 1 only whether the benches still run is of interest."""
    large: bool = False
    """What is only reported and takes minutes, too."""
    against: Path | None = None
    """Another working copy, whose gateway is measured beside this one's."""
    paces: list[float] = field(default_factory=list, init=False)
    """Seconds that the unit of work took, after each run of the bench at hand."""
    _open: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)
    _plane: ControlPlane | None = field(default=None, init=False)

    async def plane(self) -> ControlPlane:
        """The control plane that all benches share, with Moorgate's CRDs and its namespace; started when it is first needed."""
        if self._plane is None:
            self.log("starting the control plane")
            plane = ControlPlane(
                folder=self.folder / "control-plane", crds=CRDS, nodes=0, controllers=CONTROLLERS
            )
            self._plane = await self._open.enter_async_context(plane)
            async with KubeApi(self._plane.kubeconfig()) as api:
                await api.request("POST", "/api/v1/namespaces", {"metadata": {"name": "moorgate"}})
        return self._plane

    async def close(self) -> None:
        """Stop what was shared."""
        await self._open.aclose()

    def size(self, full: int, least: int = 10) -> int:
        """So many of something in this session."""
        return max(least, round(full * self.scale))

    def at_least(self, rounds: int) -> int:
        """So many rounds, where the figures count."""
        return self.rounds if self.scale < 1 else max(rounds, self.rounds)

    def log(self, text: str) -> None:
        """A line for whoever waits."""
        self.console.print(f"  [dim]{text} · load {processes.load():.1f}[/dim]", highlight=False)


@dataclass
class Rounds:
    """Runs of several sides, side by side."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def of(self, side: str, name: str) -> list[float]:
        """One quantity of one side, round by round."""
        return [sample[name] for sample in self.samples[side]]


async def interleaved(session: Session, sides: Mapping[str, Measure], rounds: int | None = None) -> Rounds:
    """Each side once a round, in an order that changes: a machine that slows down slows all of them."""
    found = Rounds({name: [] for name in sides})
    for number in range(rounds or session.rounds):
        order = list(sides)
        random.shuffle(order)
        for name in order:
            sample = await sides[name]()
            found.samples[name].append(sample)
            told = ", ".join(f"{key} {value:.4g}" for key, value in sample.items())
            session.log(f"round {number + 1}, {name}: {told}")
            session.paces.append(unit_of_work())
    return found


Bench = Callable[[Session], Awaitable[Sequence[Figure]]]
