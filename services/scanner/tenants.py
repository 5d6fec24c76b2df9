"""One tenant's scanner, and all of them side by side as the tenants' file says.

Each tenant has its own connections, breaker, bounds, workers and two lanes, so that one tenant's outage or slowness
delays nobody else. The file is looked at every few seconds: a new tenant begins, a changed one begins anew, of one
that is gone the lanes and the record are removed. A file that cannot be used changes nothing but a warning.
"""

import asyncio
from collections.abc import Mapping
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from services.scanner.breaker import Breaker
from services.scanner.bundles import Bundles
from services.scanner.calls import Calls
from services.scanner.config import ScannerConfig
from services.scanner.detection import client
from services.scanner.guard import CallSlots, GuardedAnchore
from services.scanner.health import Health
from services.scanner.hints import Hints
from services.scanner.looks import Looks
from services.scanner.metrics import ScannerMetrics
from services.scanner.queue import Queues
from services.scanner.worker import Worker
from shared import contracts, logs, streams, subjects
from shared.anchore import AnchoreHttp, open_session
from shared.broker import Broker
from shared.consumer import Consumer, Work
from shared.errors import BadSetting, Unavailable
from shared.lifecycle import background
from shared.subjects import Lane
from shared.tenants import Tenant
from shared.verdict_store import VerdictBuckets

RELOAD = 5.0
"""Seconds between two looks at the file: a kubelet itself takes up to a minute to bring a changed Secret."""

RETRY = 1.0
"""Seconds before NATS is asked again for a lane that it refused."""


class _Running(NamedTuple):
    tenant: Tenant
    trust: bytes
    """Content of the CA file: it may be replaced under its name."""
    task: "asyncio.Task[None]"


class Tenants:
    """Everything this process scans."""

    def __init__(
        self, config: ScannerConfig, broker: Broker, metrics: ScannerMetrics, hints: Hints | None = None
    ) -> None:
        """`hints`: where notices may be about the tenants; None: nobody takes any."""
        self._config = config
        self._hints = hints
        self._source = config.tenants
        self._queues = Queues(broker, metrics)
        self._broker = broker
        self._metrics = metrics
        self._running: dict[str, _Running] = {}
        self._log = logs.logger("tenants")

    async def run(self) -> None:
        """Scan until cancelled. Raises `BadSetting` for tenants that cannot be used at the start."""
        async with asyncio.TaskGroup() as group:
            await self._adopt(group, self._source.read())
            while self._source.path:
                await asyncio.sleep(RELOAD)
                if (found := await asyncio.to_thread(self._read)) is not None:
                    await self._adopt(group, found)
            await asyncio.Event().wait()

    def _read(self) -> Mapping[str, Tenant] | None:
        """The tenants as they are now; None where the file cannot be used."""
        try:
            found = self._source.read()
        except BadSetting as error:
            self._metrics.degraded.labels("tenants").set(1)
            self._log.warning("tenants_not_read", error=str(error), then="the tenants stay as they are")
            return None
        self._metrics.degraded.labels("tenants").set(0)
        return found

    async def _adopt(self, group: asyncio.TaskGroup, wanted: Mapping[str, Tenant]) -> None:
        trust = {name: _trust(tenant) for name, tenant in wanted.items()}
        for name, running in list(self._running.items()):
            if name not in wanted:
                await self._stop(name)
                await self._forget(name)
            elif (running.tenant, running.trust) != (wanted[name], trust[name]):
                await self._stop(name)
        for name in wanted.keys() - self._running.keys():
            task = group.create_task(
                run_tenant(
                    name,
                    wanted[name],
                    self._config,
                    self._broker,
                    self._metrics,
                    queues=self._queues,
                    hints=self._hints,
                )
            )
            self._running[name] = _Running(wanted[name], trust[name], task)
            self._log.info("scanning", tenant=name)

    async def _stop(self, name: str) -> None:
        task = self._running.pop(name).task
        task.cancel()
        await asyncio.wait({task})

    async def _forget(self, name: str) -> None:
        """Of a tenant that is gone nothing is left to ask; a scanner with the old file makes it anew until it reloads."""
        try:
            for lane in Lane:
                await streams.remove_lane(self._broker, lane, name)
            await VerdictBuckets(self._broker).forget_tenant(name)
        except Unavailable as error:
            self._log.warning("tenant_not_forgotten", tenant=name, error=str(error))
        else:
            self._log.info("tenant_forgotten", tenant=name)


async def run_tenant(
    name: str,
    tenant: Tenant,
    config: ScannerConfig,
    broker: Broker,
    metrics: ScannerMetrics,
    *,
    queues: Queues,
    hints: Hints | None = None,
) -> None:
    """Scan for one tenant until cancelled: its bundles' record, and for each lane a consumer."""
    buckets = VerdictBuckets(broker)
    breaker = Breaker()
    slots = CallSlots(config.concurrency)
    async with open_session(tenant.anchore) as session:
        calls = Calls(AnchoreHttp(session, tenant.anchore), metrics)
        anchore = client(tenant.anchore.api, calls)
        health = Health(anchore)
        ttl = config.rules.lifetimes.known
        bundles = Bundles(name, anchore, buckets, breaker, health, ttl=ttl, chosen=tenant.bundle)
        breaker.on_open(bundles.look_soon)
        breaker.on_open(metrics.breakers_open.inc)
        breaker.on_close(metrics.breakers_open.dec)
        consume = partial(
            _consume, breaker=breaker, concurrency=config.concurrency, broker=broker, metrics=metrics
        )
        lanes = []
        for lane in Lane:
            looks = Looks(broker, lane, name, workers=config.concurrency)
            worker = Worker(
                tenant=name,
                anchore=GuardedAnchore(anchore, breaker, slots, lane),
                buckets=buckets,
                bundles=bundles,
                health=health,
                looks=looks,
                rules=config.rules,
                pending_limit=config.pending_limit,
                metrics=metrics,
            )
            lanes += [looks.run(), consume(lane, name, worker)]
        guarded = GuardedAnchore(anchore, breaker, slots, Lane.RESCAN)
        hinted = hints.tenant(name, tenant.anchore, guarded) if hints else nullcontext()
        with closing(breaker):  # what is not asked any more is not away
            async with background(bundles.run(), queues.watch(name, bundles), *lanes):
                with hinted:
                    await asyncio.Event().wait()


async def _consume(
    lane: Lane,
    tenant: str,
    worker: Worker,
    *,
    breaker: Breaker,
    concurrency: int,
    broker: Broker,
    metrics: ScannerMetrics,
) -> None:
    """Work on one lane until cancelled; its durable is made first, and anew when it is lost."""
    make_lane = partial(_make_lane, broker, lane, tenant)
    await make_lane()
    work = Work(
        what="scan",
        stream=subjects.SCANS,
        durable=subjects.lane_durable(lane, tenant),
        decoder=contracts.SCAN_REQUEST,
        handle=worker.scan,
        probe=breaker.lets_through,
        concurrency=concurrency,
        ack_wait=streams.ACK_WAIT,
        mend=make_lane,
    )
    await Consumer(broker, metrics, work).run()


async def _make_lane(broker: Broker, lane: Lane, tenant: str) -> None:
    """The lane's durable, once the stream is there."""
    while True:
        await streams.wait_for_streams(broker, subjects.SCANS)
        try:
            await streams.make_lane(broker, lane, tenant)
        except Unavailable as error:
            logs.logger("tenants").warning("lane_not_made", error=str(error))
            await asyncio.sleep(RETRY)
        else:
            return


def _trust(tenant: Tenant) -> bytes:
    """Empty where the file cannot be read now, which the next look at the tenants tells."""
    try:
        return Path(tenant.anchore.ca_file).read_bytes() if tenant.anchore.ca_file else b""
    except OSError:
        return b""
