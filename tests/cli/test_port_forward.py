"""The road to a NATS in the cluster: Service and Secrets are real, kubectl's forwarding is a stand-in.

Nothing can be forwarded here, for the nodes are made up: a script in kubectl's place does it, told what kubectl was told. What
`kubectl port-forward` itself says where there is no Pod is the real one's.
"""

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dev.kubectl import Kubectl
from deploy.dev.programs import installed
from tests.support.command_line import CommandLine
from tests.support.road import WatchedRoad

pytestmark = pytest.mark.cluster

FORWARDER = """#!{python}
import asyncio, json, os, sys

async def main():
    async def through(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", {port})
        async def pump(source, sink):
            while some := await source.read(65536):
                sink.write(some)
            sink.close()
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    server = await asyncio.start_server(through, "127.0.0.1", 0)
    open({told!r}, "w").write(json.dumps({{"arguments": sys.argv[1:], "pid": os.getpid()}}))
    print(f"Forwarding from 127.0.0.1:{{server.sockets[0].getsockname()[1]}} -> 4222", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def desk(road: WatchedRoad, kube: Kubectl, tmp_path: Path) -> CommandLine:
    """A person with a kubeconfig and kubectl, who knows nothing of NATS."""
    told = tmp_path / "told.json"
    port = road.nats.url.rpartition(":")[2]
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(FORWARDER.format(python=sys.executable, port=port, told=str(told)))
    program.chmod(0o755)
    return CommandLine(
        {
            "KUBECONFIG": str(road.plane.kubeconfig()),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "MOORGATE_NAMESPACE": kube.namespace,
        }
    )


async def install(road: WatchedRoad, kube: Kubectl) -> None:
    """What the chart makes of the built-in NATS, with the road's passwords."""
    labels = {"app.kubernetes.io/part-of": "moorgate", "app.kubernetes.io/component": "nats"}
    ports = [{"port": 4222}]
    settings = road.nats.settings("operator")
    authority = road.nats.access.ca.read_text() if road.nats.access else ""
    password = settings["MOORGATE_NATS_PASSWORD"]

    def secret(name: str, **data: str) -> dict[str, Any]:
        encoded = {
            key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()
        }
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}

    await kube.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "own-nats-headless", "labels": labels},
            "spec": {"clusterIP": "None", "ports": ports},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "own-nats", "labels": labels},
            "spec": {"ports": ports},
        },
        secret("own-nats-users", operator=password),
        secret("own-nats-tls", ca_crt=authority),
    )


async def test_it_is_forwarded_and_ended(
    road: WatchedRoad, kube: Kubectl, desk: CommandLine, tmp_path: Path
) -> None:
    await install(road, kube)
    answer = await desk("check", "nginx:1.25", "-o", "json")
    assert answer.code == 0, answer
    said = f"NATS by kubectl port-forward service/own-nats of namespace {kube.namespace}, as operator"
    assert said in answer.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["arguments"] == [
        f"--namespace={kube.namespace}",
        "port-forward",
        "--address=127.0.0.1",
        "service/own-nats",
        ":4222",
    ]
    with pytest.raises(ProcessLookupError):
        os.kill(told["pid"], 0)
    parts = (await desk("status", "-o", "json", "--context", _context(road))).json()
    assert next(each for each in parts if each["name"] == "nats")["health"] == "ok"
    assert json.loads((tmp_path / "told.json").read_text())["arguments"][0] == f"--context={_context(road)}"


async def test_without_the_service_nothing_is_forwarded(
    kube: Kubectl, desk: CommandLine, tmp_path: Path
) -> None:
    del kube
    answer = await desk("check", "nginx:1.25")
    assert answer.code == 3
    assert "it does not answer at nats://127.0.0.1:4222" in answer.trouble
    assert not (tmp_path / "told.json").exists()


async def test_what_kubectl_says_is_told(road: WatchedRoad, kube: Kubectl, desk: CommandLine) -> None:
    await install(road, kube)
    real = desk.given(PATH=f"{Path(installed('kubectl')).parent}:{os.environ['PATH']}")
    answer = await real("dead", "list")
    assert answer.code == 3
    assert "kubectl port-forward: error: " in answer.trouble


async def test_secrets_that_may_not_be_read(
    road: WatchedRoad, kube: Kubectl, desk: CommandLine, tmp_path: Path
) -> None:
    """Who may list Services and no more is told what to give instead."""
    await install(road, kube)
    subject = f"--serviceaccount={kube.namespace}:desk"
    await kube.ok("create", "serviceaccount", "desk")
    await kube.ok("create", "role", "desk", "--verb=list", "--resource=services")
    await kube.ok("create", "rolebinding", "desk", "--role=desk", subject)
    content = yaml.safe_load(road.plane.kubeconfig().read_text())
    content["users"][0]["user"] = {"token": (await kube.ok("create", "token", "desk")).strip()}
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(content))
    answer = await desk.given(KUBECONFIG=str(file))("check", "nginx:1.25")
    assert answer.code == 3
    assert f"you may not read its Secret {kube.namespace}/own-nats-users: give --nats-url" in answer.trouble


def _context(road: WatchedRoad) -> str:
    return str(yaml.safe_load(road.plane.kubeconfig().read_text())["current-context"])
