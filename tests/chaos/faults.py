"""The faults, each with what it does, how long it is held, on which stage, and the signs by which it is seen to bite.

A fault begins when its context opens and ends when it closes. What Kubernetes would start again at once (our own services)
is started at the end and its start counts as recovery; a neighbour's fault ends when the neighbour answers again.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from nats.aio.msg import Msg

from deploy.dev.processes import Process, answers_ok
from shared import subjects
from tests.chaos import machine
from tests.chaos.connections import FAILURES, connected
from tests.chaos.ledger import Ledger
from tests.chaos.signs import Signs
from tests.chaos.stage import OWNER, Shape, Stage
from tests.support.api import Api
from tests.support.road import pod, until


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where a fault happens, and what sees it."""

    stage: Stage
    namespace: str
    ledger: Ledger
    signs: Signs


Inflict = Callable[[Scene], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One row of the report."""

    name: str
    says: str
    """What happens, in a few words."""
    inflict: Inflict
    signs: tuple[str, ...]
    """One of these must show, or it did not bite."""
    held: float = 10.0
    """Seconds."""
    shape: Shape = Shape.PLAIN


# Our own services


@asynccontextmanager
async def killed_in_turn(scene: Scene, service: str) -> AsyncIterator[None]:
    """One replica after the other, each as soon as all are ready again."""
    replicas = scene.stage.replicas_of(service)

    async def kill_and_start() -> None:
        for process in itertools.cycle(replicas):
            process.kill()
            process.launch()
            await process.wait_until_ready()

    async with _beside(kill_and_start()):
        yield


@asynccontextmanager
async def all_killed(scene: Scene, service: str) -> AsyncIterator[None]:
    """All replicas at once."""
    replicas = scene.stage.replicas_of(service)
    for process in replicas:
        process.kill()
    try:
        yield
    finally:
        for process in replicas:
            process.launch()


@asynccontextmanager
async def paused(scene: Scene, what: Callable[[Stage], Process]) -> AsyncIterator[None]:
    """SIGSTOP: its sockets stay open and nobody answers."""
    process = what(scene.stage)
    process.pause()
    try:
        yield
    finally:
        process.resume()


# Neighbours


@asynccontextmanager
async def nats_killed(scene: Scene) -> AsyncIterator[None]:
    """kill -9 of the only server."""
    server = scene.stage.nats
    server.process.kill()
    try:
        yield
    finally:
        await server.start()


@asynccontextmanager
async def leaders_killed(scene: Scene) -> AsyncIterator[None]:
    """kill -9 of the server that leads the events, and when that is back, of the one that leads the scans.

    The fault ends when both are back: a kill cut short would leave NATS electing, for 4 to 9 s, after the fault's end.
    """
    cluster = scene.stage.nats_cluster

    async def kill_leaders() -> None:
        for stream in (subjects.EVENTS, subjects.SCANS):
            server = cluster.named(await until(partial(_leader, scene.stage, stream), "a leader", 30))
            server.process.kill()
            try:
                await asyncio.sleep(LEADER_DOWN)
            finally:
                await server.start()

    async with asyncio.TaskGroup() as group:
        group.create_task(kill_leaders())
        yield


LEADER_DOWN = 10.0
"""Seconds: longer than the election of another one takes."""


async def _leader(stage: Stage, stream: str) -> str | None:
    with contextlib.suppress(*FAILURES):
        async with connected(stage.nats_cluster.options("operator")) as client:
            cluster = (await client.jetstream(timeout=2).stream_info(stream)).cluster
            return cluster.leader if cluster else None
    return None


@asynccontextmanager
async def apiserver_killed(scene: Scene) -> AsyncIterator[None]:
    """kill -9 of the API server; etcd stays."""
    apiserver = scene.stage.plane.apiserver
    apiserver.kill()
    try:
        yield
    finally:
        await apiserver.start()


@asynccontextmanager
async def anchore_answers(scene: Scene, kind: str, operation: str = "*") -> AsyncIterator[None]:
    """Each answer of the simulator is spoilt so."""
    await scene.stage.tell_anchore("faults", operation=operation, kind=kind, times=-1)
    try:
        yield
    finally:
        await scene.stage.tell_anchore("clear-faults")


# The machine


@asynccontextmanager
async def nats_disk_full(scene: Scene) -> AsyncIterator[None]:
    """Not a byte is left where NATS keeps its streams. Freed, it stays unwritable until it is started again."""
    stage = scene.stage
    filler = machine.fill(stage.store)
    try:
        yield
    finally:
        filler.unlink()
        if not await answers_ok(f"{stage.nats.monitor_url}/healthz")():
            scene.signs.tell("restarts by the liveness probe", 1)
            await stage.nats.restart()  # what the chart's liveness probe leads to


@asynccontextmanager
async def outbox_disk_full(scene: Scene) -> AsyncIterator[None]:
    """Not a byte is left where the gateways keep their decisions: answers wait for NATS' acknowledgement."""
    filler = machine.fill(scene.stage.outboxes)
    try:
        yield
    finally:
        filler.unlink()


@asynccontextmanager
async def clock_off(scene: Scene, seconds: int) -> AsyncIterator[None]:
    """The clocks of a gateway, a scanner and an audit-writer jump, and jump back at the end."""
    before = scene.ledger.skewed
    scene.stage.set_clock(seconds)
    try:
        yield
    finally:
        scene.signs.tell("decisions with a wrong time", scene.ledger.skewed - before)
        scene.stage.set_clock(0)


@asynccontextmanager
async def packets_lost(scene: Scene, share: float) -> AsyncIterator[None]:
    """Between NATS and everybody, each way."""
    link = scene.stage.link
    assert link is not None, "this stage has no network of its own"
    link.lose(share)
    try:
        yield
    finally:
        scene.signs.tell("packets dropped", link.dropped())
        link.mend()


# Messages


@asynccontextmanager
async def everything_twice(scene: Scene) -> AsyncIterator[None]:
    """What is published on decisions and scans is published again, without the id by which NATS would tell."""
    before = scene.ledger.doubles
    options = scene.stage.nats_cluster.options
    async with connected(options(OWNER)) as ears, connected(options("gateway")) as mouth:

        async def repeat(message: Msg) -> None:
            headers = message.headers or {}
            if AGAIN not in headers:
                kept = {name: text for name, text in headers.items() if not name.startswith("Nats-")}
                await mouth.publish(message.subject, message.data, headers={**kept, AGAIN: "yes"})

        for subject in (subjects.decision_subject(scene.namespace), subjects.SCAN_SUBJECTS):
            await ears.subscribe(subject, cb=repeat)
        yield
    scene.signs.tell("events twice", scene.ledger.doubles - before)


AGAIN = "chaos-again"


@asynccontextmanager
async def flood(scene: Scene, images: int, at_once: int) -> AsyncIterator[None]:
    """Pods with images that nobody has seen, from one other namespace."""
    kube = await scene.stage.namespace()
    names = iter(range(images))

    async def ask(api: Api) -> None:
        for number in names:
            image = f"registry.example/made-up/{kube.namespace}-{number}:1"
            with contextlib.suppress(OSError):
                await api.create_pod(kube.namespace, pod(f"flood-{number}", image), dry_run=True)

    async with scene.stage.api() as api, asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(ask(api))
        yield
    assert next(names, None) is None, "the flood was not over"


@asynccontextmanager
async def verdicts_lost(scene: Scene) -> AsyncIterator[None]:
    """The bucket is deleted, and made again, empty, by `moorgate streams apply`."""
    async with connected(scene.stage.nats_cluster.options(OWNER)) as client:
        await client.jetstream().delete_stream(f"KV_{subjects.VERDICTS}")
    try:
        yield
    finally:
        await scene.stage.services.apply_streams()


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Something goes on for as long as the context is open; its failure is the fault's."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _first(service: str) -> Callable[[Stage], Process]:
    return lambda stage: stage.replicas_of(service)[0]


_UNANSWERED = ("not decided",)
_UNPUBLISHED = ("outbox entries", "NATS missed")
_UNSCANNED = ("deferred", "not decided", "Anchore errors")

FAULTS: Sequence[Fault] = (
    Fault(
        name="gateway-killed",
        says="kill -9 of each gateway in turn, again and again",
        inflict=partial(killed_in_turn, service="gateway"),
        signs=_UNANSWERED,
        held=20,
    ),
    Fault(
        name="gateways-killed",
        says="kill -9 of both gateways at once, down 3 s",
        inflict=partial(all_killed, service="gateway"),
        signs=_UNANSWERED,
        held=3,
    ),
    Fault(
        name="scanner-killed",
        says="kill -9 of each scanner in turn, again and again",
        inflict=partial(killed_in_turn, service="scanner"),
        signs=("deferred", "silent services"),
        held=20,
    ),
    Fault(
        name="audit-writer-killed",
        says="kill -9 of each audit-writer in turn, again and again",
        inflict=partial(killed_in_turn, service="audit_writer"),
        signs=("events redelivered", "events waiting"),
        held=20,
    ),
    Fault(
        name="nats-killed",
        says="kill -9 of NATS, down 10 s",
        inflict=nats_killed,
        signs=_UNPUBLISHED,
    ),
    Fault(
        name="nats-leader-killed",
        says="three NATS servers: kill -9 of the leader of the events, then of the scans",
        inflict=leaders_killed,
        signs=_UNPUBLISHED,
        held=20,
        shape=Shape.CLUSTER,
    ),
    Fault(
        name="apiserver-killed",
        says="kill -9 of the API server, down 10 s",
        inflict=apiserver_killed,
        signs=_UNANSWERED,
    ),
    Fault(
        name="gateway-paused",
        says="SIGSTOP of a gateway for 20 s",
        inflict=partial(paused, what=_first("gateway")),
        signs=_UNANSWERED,
        held=20,
    ),
    Fault(
        name="scanner-paused",
        says="SIGSTOP of a scanner for 20 s",
        inflict=partial(paused, what=_first("scanner")),
        signs=("deferred", "silent services"),
        held=20,
    ),
    Fault(
        name="audit-writer-paused",
        says="SIGSTOP of an audit-writer for 20 s",
        inflict=partial(paused, what=_first("audit_writer")),
        signs=("events redelivered", "events waiting"),
        held=20,
    ),
    Fault(
        name="nats-paused",
        says="SIGSTOP of NATS for 20 s",
        inflict=partial(paused, what=lambda stage: stage.nats.process),
        signs=_UNPUBLISHED,
        held=20,
    ),
    Fault(
        name="anchore-paused",
        says="SIGSTOP of Anchore for 20 s",
        inflict=partial(paused, what=lambda stage: stage.anchore),
        signs=_UNSCANNED,
        held=20,
    ),
    Fault(
        name="anchore-500",
        says="Anchore answers 500 to everything",
        inflict=partial(anchore_answers, kind="error"),
        signs=_UNSCANNED,
    ),
    Fault(
        name="anchore-hanging",
        says="Anchore takes every call and answers none",
        inflict=partial(anchore_answers, kind="hang"),
        signs=_UNSCANNED,
        held=20,
    ),
    Fault(
        name="anchore-resetting",
        says="Anchore drops every connection",
        inflict=partial(anchore_answers, kind="reset"),
        signs=_UNSCANNED,
    ),
    Fault(
        name="anchore-wrong-json",
        says="Anchore answers with half a document",
        inflict=partial(anchore_answers, kind="wrong_json"),
        signs=_UNSCANNED,
    ),
    Fault(
        name="anchore-wrong-digest",
        says="Anchore's checks praise another digest",
        inflict=partial(anchore_answers, kind="wrong_digest", operation="check"),
        signs=_UNSCANNED,
    ),
    Fault(
        name="nats-disk-full",
        says="not a byte is free where NATS keeps its streams",
        inflict=nats_disk_full,
        signs=("outbox entries", "restarts by the liveness probe"),
        shape=Shape.SMALL_DISKS,
    ),
    Fault(
        name="outbox-disk-full",
        says="not a byte is free where the gateways keep their outboxes",
        inflict=outbox_disk_full,
        signs=("outboxes missed",),
        held=20,
        shape=Shape.SMALL_DISKS,
    ),
    Fault(
        name="clock-forward",
        says="the clocks of a gateway, a scanner and an audit-writer jump an hour ahead",
        inflict=partial(clock_off, seconds=3600),
        signs=("decisions with a wrong time",),
        shape=Shape.CLOCKS,
    ),
    Fault(
        name="clock-back",
        says="the clocks of a gateway, a scanner and an audit-writer jump an hour back",
        inflict=partial(clock_off, seconds=-3600),
        signs=("decisions with a wrong time",),
        shape=Shape.CLOCKS,
    ),
    Fault(
        name="duplicates",
        says="every decision and scan request is published again, without its message id",
        inflict=everything_twice,
        signs=("events twice",),
    ),
    Fault(
        name="packet-loss",
        says="a fifth of all packets to and from NATS is lost",
        inflict=partial(packets_lost, share=0.2),
        signs=("packets dropped",),
        held=20,
        shape=Shape.NETWORK,
    ),
    Fault(
        name="partition",
        says="nothing passes to or from NATS for 20 s, and nobody is told",
        inflict=partial(packets_lost, share=1.0),
        signs=_UNPUBLISHED,
        held=20,
        shape=Shape.NETWORK,
    ),
    Fault(
        name="image-flood",
        says="4,000 made-up images from one other namespace",
        inflict=partial(flood, images=4000, at_once=40),
        signs=("scans put back",),
        held=0,
    ),
    Fault(
        name="verdicts-lost",
        says="the bucket of verdicts is deleted, and made again, empty, after 5 s",
        inflict=verdicts_lost,
        signs=("verdicts gone", "not decided", "deferred"),
        held=5,
    ),
)


def named(names: Sequence[str]) -> list[Fault]:
    """Those of these names, or all; raises ValueError for one that there is none of."""
    known = {each.name: each for each in FAULTS}
    if unknown := sorted(set(names) - known.keys()):
        raise ValueError(f"no fault {', '.join(unknown)}: there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(FAULTS)
