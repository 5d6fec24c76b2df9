"""The real stack that faults are put into: two of each service behind a Service, real NATS, a real API server.

Its shapes differ in what can go wrong: one NATS or three, a NATS on another network, clocks that can be set, small
disks. Whatever a shape makes outside the folder is removed with it.
"""

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from deploy.dev.controlplane import ControlPlane
from deploy.dev.nats import NatsServer
from deploy.dev.nats_access import USERS, NatsAccess
from deploy.dev.nats_cluster import NatsCluster
from deploy.dev.processes import Process
from tests.chaos import machine
from tests.chaos.load import KNOWN, create
from tests.support.proxies import Service
from tests.support.road import WatchedRoad, until

REPLICAS = {"gateway": 2, "scanner": 2, "audit_writer": 2}

SETTINGS = {"MOORGATE_SCAN_RATE": "480/min"}
"""Well above the new images of the load, well below a flood."""

OWNER = "chaos"
"""A user of NATS with every right, made for the stage: who loses a bucket is no service of Moorgate's."""

STORE_MIB, OUTBOX_MIB = 96, 8

CLOCK_LIBRARIES = tuple(
    Path(f"/usr/lib/{each}-linux-gnu/faketime/libfaketime.so.1") for each in ("x86_64", "aarch64")
)
"""Of Debian's package libfaketime."""


class Shape(StrEnum):
    """What a stage has that others have not."""

    PLAIN = "plain"
    CLUSTER = "cluster"
    """Three NATS servers."""
    NETWORK = "network"
    """NATS in a network namespace of its own."""
    CLOCKS = "clocks"
    """The first gateway, scanner and audit-writer go by a clock that can be set."""
    SMALL_DISKS = "small-disks"
    """NATS keeps its streams on one small file system, the gateways their outboxes on another."""


class StageAccess(NatsAccess):
    """The chart's configuration, with one user more."""

    def write(self) -> None:
        """As it is, then the user."""
        super().write()
        path = self.folder / "users.conf"
        text = path.read_text()
        if OWNER not in text:
            user = f'{{ user: "{OWNER}", password: $MOORGATE_NATS_{OWNER.upper()}_PASSWORD }}'
            path.write_text(text.replace("users: [\n", f"users: [\n{user}\n", 1))


@dataclass(kw_only=True)
class Stage(WatchedRoad):
    """A road with two of everything, and what faults reach for."""

    shape: Shape = Shape.PLAIN
    link: machine.Link | None = None
    clock: Path = field(init=False)
    """What the clocks of some processes are off by, in seconds."""
    gateways: Service = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.replicas = REPLICAS
        self.settings = {**SETTINGS, **self.settings}
        self.nats_servers = 3 if self.shape is Shape.CLUSTER else 1
        self.clock = self.folder / "clock"
        self.set_clock(0)

    @property
    def store(self) -> Path:
        """Where NATS keeps its streams."""
        return self.folder / "nats" / "store"

    @property
    def outboxes(self) -> Path:
        """Where the gateways keep theirs, on small disks."""
        return self.folder / "outboxes"

    def set_clock(self, seconds: int) -> None:
        """From the next second on, the clocks that can be set are off by so much."""
        part = self.clock.with_suffix(".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(f"{seconds:+d}\n")
        part.rename(self.clock)

    def replicas_of(self, service: str) -> list[Process]:
        """The processes of a service."""
        return [
            process for name, process in self.services.processes.items() if name.rpartition("-")[0] == service
        ]

    async def everything_runs(self) -> None:
        """Wait until each process says that it is ready, as after a fault."""
        for process in self.services.processes.values():
            await process.wait_until_ready()

    def _describe_nats(self) -> NatsCluster:
        folder = self.folder / "nats"
        access = StageAccess(
            folder=folder / "etc",
            passwords={user: f"p{secrets.token_hex(16)}" for user in (*USERS, OWNER)},
            addresses=[self.link.there] if self.link else [],
        )
        if self.link is None:
            return NatsCluster.of(folder=folder, access=access, size=self.nats_servers)
        server = NatsServer(folder=folder, access=access, host=self.link.there, prefix=self.link.prefix)
        return NatsCluster(servers=[server], access=access)

    def _own_settings(self, process: str) -> Mapping[str, str]:
        if self.shape is Shape.SMALL_DISKS and process.startswith("gateway"):
            return {"MOORGATE_OUTBOX_DIR": str(self.outboxes / process), "MOORGATE_OUTBOX_SIZE": "2Mi"}
        if self.shape is not Shape.CLOCKS or not process.endswith("-0"):
            return {}
        return {
            "LD_PRELOAD": str(clock_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",  # the kernel's own never jumps either
        }

    async def _open_door(self, stack: AsyncExitStack) -> str:
        """A Service, as kube-proxy makes it: an unready gateway gets no new connections."""
        names = [name for name in self.services.processes if name.startswith("gateway")]
        ports = self.services.ports
        self.gateways = Service(
            {ports[f"{name}/webhook"]: f"{self.services.probes_url(name)}/readyz" for name in names}
        )
        port = await stack.enter_async_context(self.gateways.running())
        return self.services.webhook_url().replace(f":{ports['gateway-0/webhook']}/", f":{port}/")


@asynccontextmanager
async def open_stage(plane: ControlPlane, folder: Path, shape: Shape, **options: Any) -> AsyncIterator[Stage]:
    """A stage that knows the images of the load; nothing of it is left afterwards."""
    with ExitStack() as made:
        link = made.enter_context(machine.link()) if shape is Shape.NETWORK else None
        if shape is Shape.SMALL_DISKS:
            made.enter_context(machine.small_disk(folder / "nats" / "store", STORE_MIB))
            made.enter_context(machine.small_disk(folder / "outboxes", OUTBOX_MIB))
        async with Stage(plane=plane, folder=folder, shape=shape, link=link, **options) as stage:
            await _acquaint(stage)
            yield stage


async def _acquaint(stage: Stage) -> None:
    """Every gateway knows the known images: it answers for them in a row."""
    for image in KNOWN.values():
        await stage.tell_anchore("preload", reference=image)
    kube = await stage.namespace()
    tries = iter(range(10_000))
    async with stage.api() as api:

        async def know() -> bool:
            asked = [
                await create(api, kube.namespace, f"{kind}-{next(tries)}", kind) for kind in list(KNOWN) * 3
            ]
            return all(each.is_as_in_calm for each in asked)

        await until(know, "both gateways know the images of the load", 60)


def clock_library() -> Path:
    """What sets the clock of a process; raises MachineError where it isn't installed."""
    for path in CLOCK_LIBRARIES:
        if path.exists():
            return path
    raise machine.MachineError("libfaketime is not installed: apt-get install libfaketime")


def is_root() -> bool:
    """Whether namespaces and file systems can be made."""
    return os.geteuid() == 0
