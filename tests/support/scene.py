"""The real scanner between a real NATS and the Anchore simulator, and what a test asks of it.

Every test has a tenant of its own, and with it lanes and keys of its own.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import nats.js.errors
import pytest
from aiohttp import web

from deploy.dev.anchore.faults import Fault
from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from services.scanner import app, config
from shared import streams, subjects
from shared.broker import Broker
from shared.contracts import ErrorClass, ScanError, ScanPending, ScanRequest, ScanState, TenantRecord, Verdict
from shared.lifecycle import background
from shared.subjects import Lane
from shared.tenants import TenantSource
from shared.verdict_store import VerdictBuckets, VerdictMirror
from shared.verdicts import StoredVerdict
from tests.support.anchore import Simulator, anchore, client
from tests.support.scanners import metrics

DEFAULT = "2c53a13c-1765-11e8-82ef-23527761d060"
"""The bundle that is active in a fresh simulator."""

WITHIN = 10.0
"""Seconds after which something that should have happened has not."""

FENCE = "registry.example/bulk/fence:1"

T = TypeVar("T")


class Scene:
    """One test: a tenant, its Anchore, a connection to NATS, and what the buckets say."""

    def __init__(
        self, nats: NatsServer, broker: Broker, mirror: VerdictMirror, simulator: Simulator, api: str
    ) -> None:
        self.tenant = f"t-{secrets.token_hex(4)}"
        self.api = api
        self.metrics_port = 0
        """Of the scanner that was started last."""
        self.broker = broker
        self.mirror = mirror
        self.simulator = simulator
        self.buckets = VerdictBuckets(broker)
        mirror.tenants.on_change(mirror._wake)
        self._nats = nats

    @asynccontextmanager
    async def scanner(
        self, *, password: str = "foobar", **settings: str
    ) -> AsyncIterator["asyncio.Task[None]"]:
        """The service while the context is open."""
        self.metrics_port = free_port()
        environment = {
            "MOORGATE_NATS_URL": self._nats.url,
            "MOORGATE_METRICS_LISTEN": f"127.0.0.1:{self.metrics_port}",
            "MOORGATE_ANCHORE_URL": self.simulator.url,
            "MOORGATE_ANCHORE_PASSWORD": password,
            "MOORGATE_ANCHORE_API": self.api,
            **{f"MOORGATE_{name}": value for name, value in settings.items()},
        }
        loaded = config.load(environment)
        fixed = {self.tenant: loaded.tenants.fixed["default"]}
        loaded = msgspec.structs.replace(loaded, tenants=TenantSource(fixed=fixed))
        stop = asyncio.Event()
        service = asyncio.create_task(app.run(loaded, stop))
        try:
            yield service
        finally:
            stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait_for(service, WITHIN)

    def key(self, image: str, bundle_id: str = DEFAULT) -> str:
        return subjects.verdict_key(self.tenant, bundle_id, image)

    async def ask(
        self,
        image: str,
        lane: Lane = Lane.ADMISSION,
        *,
        bundle_id: str = DEFAULT,
        seen: int = 0,
        broker: Broker | None = None,
    ) -> bool:
        """Whether the request was taken: False where one waits already. `broker`: who asks, if not this one."""
        request = ScanRequest(
            tenant=self.tenant, image=image, bundle_id=bundle_id, seen=seen, asked_at=datetime.now(UTC)
        )
        subject = self.subject(image, lane, bundle_id)
        return await (broker or self.broker).publish_unless_waiting(subject, request)

    async def ask_again(self, image: str, lane: Lane = Lane.ADMISSION, **more: Any) -> None:
        """Ask as soon as the request before is acknowledged, which is a moment after its answer is seen."""
        async with asyncio.timeout(WITHIN):
            while not await self.ask(image, lane, **more):
                continue

    def subject(self, image: str, lane: Lane = Lane.ADMISSION, bundle_id: str = DEFAULT) -> str:
        return subjects.scan_subject(lane, self.tenant, self.key(image, bundle_id))

    async def verdict(
        self, image: str, after: int = 0, *, bundle_id: str = DEFAULT, within: float = WITHIN
    ) -> StoredVerdict:
        """The verdict once there is one of a later revision."""
        key = self.key(image, bundle_id)

        def found() -> StoredVerdict | None:
            stored = self.mirror.verdict(key)
            return stored if stored and stored.revision > after else None

        return await self._until(key, found, within)

    async def record(self, fits: Callable[[TenantRecord], bool]) -> TenantRecord:
        """The tenant's record once it fits."""
        async with asyncio.timeout(WITHIN):
            while (record := await self.buckets.tenant(self.tenant)) is None or not fits(record):
                continue
        return record

    async def lane_is_there(self, durable: str) -> None:
        """Wait until the scanner has made its durable."""
        async with asyncio.timeout(WITHIN):
            while True:
                with contextlib.suppress(nats.js.errors.NotFoundError):
                    await self.broker.jetstream.consumer_info(subjects.SCANS, durable)
                    return

    async def state(self, image: str, fits: Callable[[ScanState], bool] = bool) -> ScanState:
        """The scan state once it fits."""
        key = self.key(image)

        def found() -> ScanState | None:
            state = self.mirror.state(key)
            return state if state is not None and fits(state) else None

        return await self._until(key, found)

    def on_state(self, image: str, call: Callable[[ScanState], object]) -> None:
        """Call with every state that the image ever gets."""
        key = self.key(image)

        def changed(of: str | None) -> None:
            if of == key and (state := self.mirror.state(key)) is not None:
                call(state)

        self.mirror.states.on_change(changed)

    async def error(self, image: str, expected: ErrorClass) -> ScanError:
        state = await self.state(image, lambda state: isinstance(state, ScanError))
        assert isinstance(state, ScanError)
        assert state.error is expected, state
        assert (state.tenant, state.image, state.bundle_id) == (self.tenant, image, DEFAULT)
        return state

    async def pending(self, image: str, fits: Callable[[ScanPending], bool] = lambda _: True) -> ScanPending:
        state = await self.state(image, lambda state: isinstance(state, ScanPending) and fits(state))
        assert isinstance(state, ScanPending)
        return state

    async def scanned(
        self, image: str, lane: Lane = Lane.ADMISSION, *, seen: int = 0, bundle_id: str = DEFAULT
    ) -> Verdict:
        """Ask, and wait for the verdict."""
        await self.ask_again(image, lane, seen=seen, bundle_id=bundle_id)
        return (await self.verdict(image, seen, bundle_id=bundle_id)).verdict

    async def cleared(self, image: str) -> None:
        """No scan state is left."""
        key = self.key(image)
        await self._until(key, lambda: self.mirror.state(key) is None or None)

    async def lifetime(self, bucket: str, key: str) -> int:
        """Seconds after which NATS forgets the entry."""
        message = await self.broker.jetstream.get_last_msg(
            streams.bucket_stream(bucket), f"$KV.{bucket}.{key}", direct=True
        )
        return int((message.headers or {})["Nats-TTL"].removesuffix("s"))

    async def nothing_left(self) -> None:
        """Every request of the admission lane was worked on: with one worker the fence comes last."""
        self.simulator.preload(FENCE)
        await self.scanned(FENCE)

    async def _until(self, key: str, found: Callable[[], T | None], within: float = WITHIN) -> T:
        with self.mirror.watching([key]) as changed:
            async with asyncio.timeout(within):
                while (answer := found()) is None:
                    await changed.wait()
                    changed.clear()
        return answer

    async def metrics(self, name: str) -> dict[str, float]:
        """A metric's samples by their labels, as the scanner shows them: `{'operation="check",code="200"': 1.0}`."""
        return await metrics(self.metrics_port, name)

    def calls(self) -> dict[str, int]:
        """To Anchore, without the look at the bundles that nobody's request causes."""
        counted = dict(self.simulator.counters.calls)
        counted.pop("policies_list", None)
        return counted

    def fault(self, operation: str, kind: str, **more: Any) -> None:
        self.simulator.add_fault(msgspec.convert({"operation": operation, "kind": kind, **more}, Fault))

    def heal(self, operation: str) -> None:
        """The operation's faults are over."""
        faults = self.simulator.faults
        faults.pending = [each for each in faults.pending if each.operation != operation]


@pytest.fixture
async def scene(nats_server: NatsServer, broker: Broker) -> AsyncIterator[Scene]:
    """A tenant with an Anchore of its own; `broker` has made the streams."""
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(anchore())
        yield await stack.enter_async_context(scene_on(nats_server, broker, simulator))


@asynccontextmanager
async def scene_on(
    nats_server: NatsServer, broker: Broker, simulator: Simulator, api: str = "v1"
) -> AsyncIterator[Scene]:
    """A tenant of this simulator."""
    mirror = VerdictMirror(broker)
    async with background(*(each.run() for each in mirror.mirrors)):
        for each in mirror.mirrors:
            await asyncio.wait_for(each.ready.wait(), WITHIN)
        yield Scene(nats_server, broker, mirror, simulator, api)


class Held:
    """Calls of one operation that the server has and does not answer yet."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()


@contextlib.contextmanager
def hold(simulator: Simulator, operation: str, times: int = 1) -> Iterator[Held]:
    """The next calls wait until they are released."""
    held, perform, left = Held(), simulator.server._perform, times

    async def wait(found: Any, *arguments: Any) -> web.StreamResponse:
        nonlocal left
        if found.name == operation and left:
            left -= 1
            held.arrived.set()
            await held.released.wait()
        return await perform(found, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator.server, "_perform", wait)
        try:
            yield held
        finally:
            held.released.set()


@contextlib.contextmanager
def lie(simulator: Simulator, operation: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """The operation's answers, changed."""
    perform = simulator.server._perform

    async def tell(found: Any, *arguments: Any) -> web.StreamResponse:
        response = await perform(found, *arguments)
        if found.name != operation:
            return response
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        return web.json_response(change(msgspec.json.decode(response.body)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator.server, "_perform", tell)
        yield


async def add_bundle(simulator: Simulator, content: dict[str, Any], *, active: bool = False) -> None:
    async with client(simulator) as api:
        async with api.post("/v1/policies", json=content) as response:
            assert response.status == 200, await response.text()
        if active:
            body = {"policyId": content["id"], "active": True, "policybundle": content}
            async with api.put(f"/v1/policies/{content['id']}", json=body) as response:
                assert response.status == 200, await response.text()
