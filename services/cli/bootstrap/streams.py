"""The streams, buckets and durables in NATS, as a step: what is missing or differs is told, then `streams.apply` makes all."""

from typing import Any

import nats.errors
import nats.js.errors

from services.cli.bootstrap.plan import Plan, Verb
from shared import streams
from shared.broker import Broker
from shared.errors import Unavailable


async def set_up_streams(plan: Plan, broker: Broker, replicas: int) -> None:
    """Streams, buckets and durables as this version wants them. Raises `Unavailable`."""
    verbs = {
        str(each.name): await _verb(broker, each.as_dict(), str(each.name))
        for each in streams.stream_configs(replicas)
    }
    for stream, consumer in streams.durables():
        name = f"{stream}/{consumer.durable_name}"
        verbs[name] = await _verb(broker, consumer.as_dict(), stream, consumer.durable_name)
    if not plan.is_dry and set(verbs.values()) != {Verb.UNCHANGED}:
        await streams.apply(broker, replicas)
    for name, verb in verbs.items():
        plan.note(verb, f"stream {name}")


async def _verb(broker: Broker, wanted: dict[str, Any], stream: str, durable: str | None = None) -> Verb:
    try:
        if durable is None:
            present = (await broker.jetstream.stream_info(stream)).config.as_dict()
        else:
            present = (await broker.jetstream.consumer_info(stream, durable)).config.as_dict()
    except nats.js.errors.NotFoundError:
        return Verb.CREATED
    except (TimeoutError, nats.js.errors.Error, nats.errors.Error) as error:
        raise Unavailable("nats", f"{stream} cannot be read: {type(error).__name__} {error}") from error
    differs = [name for name, value in wanted.items() if _is_said(name, value) and present.get(name) != value]
    return Verb.UPDATED if differs else Verb.UNCHANGED


def _is_said(name: str, value: object) -> bool:
    """A window of zero leaves it to the server, which answers with its own two minutes."""
    return value is not None and not (name == "duplicate_window" and not value)
