"""NATS with its streams, for a bench's own services."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.dev.nats import NatsServer
from shared import streams, subjects
from shared.broker import Broker
from tests.bench import bucket_filling, webhook_load
from tests.bench.session import Session
from tests.support.nats import broker_on


@dataclass(kw_only=True)
class Stage:
    """One server with everything Moorgate keeps there."""

    folder: Path
    nats: NatsServer
    broker: Broker
    value_bytes: int = 0
    """Of all verdicts."""

    async def events(self) -> int:
        """Messages in the stream of events."""
        return int((await self.broker.jetstream.stream_info(subjects.EVENTS)).state.messages)


@asynccontextmanager
async def stage(session: Session, name: str, verdicts: int = 0) -> AsyncIterator[Stage]:
    """`verdicts`: that many in the bucket, besides those of the webhook load's images."""
    folder = session.folder / name
    async with NatsServer(folder=folder / "nats") as nats, broker_on(nats, "bench") as broker:
        await streams.apply(broker, 1)
        made = Stage(folder=folder, nats=nats, broker=broker)
        if verdicts:
            session.log(f"{name}: writing {verdicts} verdicts")
            await bucket_filling.put_tenant(broker)
            made.value_bytes = await bucket_filling.put_verdicts(broker, webhook_load.images(), verdicts)
        yield made
