"""Three servers by the chart's configuration: routes with TLS both ways, every message kept three times."""

import asyncio
import os
import sys
from pathlib import Path

import nats
import pytest

from deploy.dev.nats_access import NatsAccess
from deploy.dev.nats_cluster import NatsCluster
from deploy.dev.services import ROOT
from shared import streams, subjects
from tests.support.road import until


async def test_the_operator_makes_streams_of_three_replicas(tmp_path: Path) -> None:
    cluster = NatsCluster.of(folder=tmp_path, access=NatsAccess(folder=tmp_path / "etc"), size=3)
    servers = cluster.servers
    async with cluster:
        await _apply(cluster)
        client = await nats.connect(**servers[0].options("operator"))
        try:
            info = await client.jetstream().stream_info(subjects.EVENTS)
            assert info.config.num_replicas == len(servers)
            assert info.cluster is not None

            async def are_current() -> bool:
                told = (await client.jetstream().stream_info(subjects.EVENTS)).cluster
                peers = (told.replicas if told else None) or []
                return len(peers) == len(servers) - 1 and all(peer.current for peer in peers)

            await until(are_current, "both other copies are current", 60)
            gateway = await nats.connect(**servers[1].options("gateway"))
            stored = await gateway.jetstream().publish(subjects.decision_subject("shop"), b"{}", timeout=20)
            await gateway.close()
            assert stored.stream == subjects.EVENTS
        finally:
            await client.close()


async def _apply(cluster: NatsCluster) -> None:
    """`moorgate streams apply`, repeated as the bootstrap Job is while the servers elect their leader."""
    environment = {
        **os.environ,
        **cluster.settings("operator"),
        "MOORGATE_NATS_REPLICAS": "3",
    }

    told = ""

    async def is_applied() -> bool:
        nonlocal told
        command = (sys.executable, "-m", "services.cli", "streams", "apply")
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, told_now = await process.communicate()
        told = told_now.decode()
        names = out.decode().split()
        wanted = [str(each.name) for each in streams.stream_configs(3)]
        return process.returncode == 0 and names[: len(wanted)] == wanted

    try:
        await until(is_applied, "moorgate streams apply succeeds", 40)
    except AssertionError:
        pytest.fail(f"moorgate streams apply: {told}")
