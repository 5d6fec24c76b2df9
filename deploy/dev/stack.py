"""The whole stack on this machine: a control plane and the road beside it, with its parts started in order.

What the demo tells its story on and `make dev` leaves running.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.dev.controlplane import ControlPlane
from deploy.dev.page.reader import make_reader
from deploy.dev.road import Road, Step
from deploy.dev.services import ROOT

CRDS = ROOT / "deploy" / "helm" / "moorgate" / "files" / "crds"
"""The one copy, inside the chart."""


@asynccontextmanager
async def open_stack(folder: Path, step: Step) -> AsyncIterator[Road]:
    """Everything below one folder, running; ended, last started first, when the context closes."""
    plane = ControlPlane(folder=folder / "control-plane", crds=CRDS)
    await step("Kubernetes control plane", plane.start())
    try:
        road = Road(plane=plane, folder=folder, step=step, has_page=True)
        await road.start()
        await make_reader(plane.kubeconfig(), road.name)
        try:
            yield road
        finally:
            await step("Moorgate stopped", road.stop())
    finally:
        await step("Control plane stopped", plane.stop())
