"""`moorgate status`: how every part is, by what NATS and the API server tell; nothing is changed.

Exit codes: 0 nothing is bad, 1 something is, 2 a flag or a setting is at fault, 3 nothing seen is bad, and something could not be
looked at.
"""

import asyncio
import os
from contextlib import AsyncExitStack
from typing import Annotated

import cyclopts

from services.cli import frame, status_cluster, status_nats
from services.cli.frame import ClusterFlags, NatsFlags, Text
from services.cli.output import emit, table
from services.cli.status_parts import Health, Look, Part, exit_code, looked_at
from shared.errors import BadSetting, MoorgateError
from shared.settings import Environment

COLUMNS = ("part", "health", "what there is")
_MARKS = {Health.OK: "ok", Health.ATTENTION: "LOOK", Health.BAD: "BAD", Health.UNKNOWN: "?"}


def command(
    *,
    namespace: Annotated[str | None, cyclopts.Parameter(name=["--namespace", "-n"])] = None,
    output: Text = "text",
    cluster: ClusterFlags = ClusterFlags(),  # noqa: B008  a value that never changes
    nats: NatsFlags = NatsFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Show how every part of Moorgate is.

    Parameters
    ----------
    namespace
        Where Moorgate runs; without it MOORGATE_NAMESPACE.
    """

    async def work() -> int:
        environment = Environment(os.environ)
        within = namespace or environment.text("MOORGATE_NAMESPACE", "moorgate")
        nats.settings()  # what is wrong with a flag is said before anything is looked at
        halves = [_nats_half(nats, cluster.context, within)]
        if environment.has_cluster:
            halves.append(_cluster_half(cluster, within))
        parts = [part for half in await asyncio.gather(*halves) for part in half]
        rows = [(part.name, _MARKS[part.health], part.detail) for part in parts]
        emit(parts, output, table(COLUMNS, rows, ""))
        return exit_code(parts)

    return frame.run(work, verbose=cluster.verbose)


async def _nats_half(flags: NatsFlags, context: str | None, namespace: str) -> list[Part]:
    async with AsyncExitStack() as stack:
        try:
            broker = await stack.enter_async_context(flags.broker(context, namespace))
        except MoorgateError as error:
            return [Part("nats", Health.UNKNOWN, str(error))]
        server = broker.client.connected_url
        where = f"{server.hostname}:{server.port}" if server else ""
        version = broker.client.connected_server_version
        number = f"{version.major}.{version.minor}.{version.patch}"
        return [
            Part("nats", Health.OK, f"connected to {where}, version {number}"),
            *await _all(status_nats.looks(broker)),
        ]


async def _cluster_half(flags: ClusterFlags, namespace: str) -> list[Part]:
    async with AsyncExitStack() as stack:
        try:
            found = await stack.enter_async_context(flags.cluster())
        except BadSetting as error:
            return [Part("cluster", Health.UNKNOWN, str(error))]
        return await _all(status_cluster.looks(found, namespace))


async def _all(looks: list[tuple[str, Look]]) -> list[Part]:
    found = await asyncio.gather(*(looked_at(name, look) for name, look in looks))
    return [part for parts in found for part in parts]
