"""`moorgate status` on the running road, and what it says when a part of it is away, missing or not to be seen."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.dev.kubectl import Kubectl
from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from tests.support.command_line import CommandLine
from tests.support.road import WatchedRoad, audit, pod

pytestmark = pytest.mark.cluster


async def parts(moorgate: CommandLine, *flags: str) -> tuple[int, dict[str, tuple[str, str]]]:
    answer = await moorgate("status", "-o", "json", *flags)
    assert answer.stderr == ""
    return answer.code, {each["name"]: (each["health"], each["detail"]) for each in answer.json()}


@pytest.fixture
async def empty_nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server that Moorgate has no streams on."""
    async with NatsServer(folder=tmp_path) as server:
        yield server


async def test_every_part_is_told(road: WatchedRoad, kube: Kubectl, moorgate: CommandLine) -> None:
    await kube.create(pod("status", "nginx:1.25"))
    await audit(kube, "pod-status")
    _, found = await parts(moorgate)
    for name in (
        "nats",
        "streams",
        "gateways",
        "tenant default",
        "queue admission/default",
        "queue rescan/default",
        "decisions",
        f"webhook {road.name}-pods",
        f"webhook {road.name}-workloads",
        "lease moorgate-gateway",
        "lease moorgate-audit-writer",
    ):
        assert found[name][0] == "ok", (name, found)
    assert found["gateways"][1] == "1 on NATS"
    assert "admitted" in found["audits"][1]
    shown = await moorgate("status")
    assert shown.stdout.splitlines()[0].split() == ["PART", "HEALTH", "WHAT", "THERE", "IS"]
    assert re.search(r"nats +ok +connected to 127\.0\.0\.1:\d+, version 2\.\d+\.\d+\n", shown.stdout)


async def test_what_is_missing_is_bad(moorgate: CommandLine, empty_nats: NatsServer) -> None:
    bare = CommandLine(
        {
            **{name: value for name, value in moorgate.environment.items() if "NATS" not in name},
            "MOORGATE_NATS_URL": empty_nats.url,
            "MOORGATE_NAMESPACE": "default",
        }
    )
    code, found = await parts(bare)
    assert code == 1
    assert found["streams"][0] == "bad"
    assert "MOORGATE_SCANS" in found["streams"][1]
    assert found["gateways"][0] == "bad"
    assert found["lease moorgate-gateway"][0] == "bad"
    assert found["decisions"][0] == "bad"


async def test_what_cannot_be_seen_hides_nothing_else(road: WatchedRoad, moorgate: CommandLine) -> None:
    developer = moorgate.given(KUBECONFIG=str(road.plane.kubeconfig("developer")))
    code, found = await parts(developer)
    assert code == 3
    assert found["webhooks"][0] == "unknown"
    assert "no right" in found["webhooks"][1]
    assert found["streams"][0] == "ok"

    code, found = await parts(moorgate, "--nats-url", f"nats://127.0.0.1:{free_port()}")
    assert found["nats"][0] == "unknown"
    assert found["lease moorgate-gateway"][0] == "ok"
    assert code == 3

    code, found = await parts(moorgate.given(KUBECONFIG="/nowhere"))
    assert code == 3
    assert found["cluster"][0] == "unknown"
    assert found["gateways"][0] == "ok"

    flag = await moorgate("status", "--nats-ca-file", "/nowhere")
    assert (flag.code, flag.stdout) == (2, "")
    assert "--nats-ca-file" in flag.trouble
