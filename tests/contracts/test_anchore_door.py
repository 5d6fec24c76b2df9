"""What tests get from the simulator besides Anchore's API: faults, counters, races, the door over HTTP, the program itself.

aiohttp's client asks an idempotent request once more when the connection is lost before the answer, so a test that wants to see
a lost connection must spoil two calls.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from deploy.dev.anchore.__main__ import read_arguments
from deploy.dev.anchore.faults import Fault
from tests.support.anchore import Simulator, anchore, client, posted

NGINX = "docker.io/library/nginx:1.25"
SSHD = "registry.example/team/sshd:1.0"
BULK = "registry.example/bulk/a:1"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with anchore() as running:
        yield running


@pytest.fixture
async def api(simulator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with client(simulator) as session:
        yield session


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "error", "status": 503}, 503),
        ({"kind": "unauthorized"}, 401),
        ({"kind": "not_found"}, 404),
        ({"kind": "no_evaluation"}, 404),
        ({"kind": "too_many"}, 429),
        ({"kind": "wrong_json"}, ValueError),
        ({"kind": "html"}, aiohttp.ContentTypeError),
        ({"kind": "truncated"}, aiohttp.ClientPayloadError),
        ({"kind": "reset", "times": 2}, aiohttp.ServerDisconnectedError),
        ({"kind": "hang", "seconds": 0.01, "times": 2}, aiohttp.ServerDisconnectedError),
    ],
)
async def test_a_fault_spoils_so_many_calls(
    simulator: Simulator, api: aiohttp.ClientSession, fault: dict[str, Any], expected: int | type[Exception]
) -> None:
    simulator.add_fault(Fault(operation="policies_list", **fault))
    outcome: object
    try:
        async with api.get("/v1/policies") as response:
            outcome = response.status
            if response.ok:
                await response.json()
    except (ValueError, aiohttp.ClientError) as error:
        outcome = error
    if isinstance(expected, int):
        assert outcome == expected
    else:
        assert isinstance(outcome, expected)
    async with api.get("/v1/policies") as response:
        assert response.status == 200


async def test_a_fault_after_the_work_loses_only_the_answer(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    simulator.add_fault(Fault(operation="image_add", kind="error", after=True, image=BULK))
    await posted(api, NGINX)
    async with api.post("/v1/images", json={"tag": BULK}) as response:
        assert response.status == 500
    async with api.get("/v1/images", params={"fulltag": BULK}) as response:
        assert response.status == 200


async def test_a_huge_answer_is_huge(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    simulator.add_fault(Fault(operation="status", kind="huge"))
    async with api.get("/v1/status") as response:
        assert len(await response.read()) > 10_000_000


async def test_connections_are_refused_until_listening_again(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    url = simulator.url
    await simulator.refuse_connections()
    with pytest.raises(aiohttp.ClientError):
        await api.get("/health")
    await simulator.listen()
    async with api.get("/health") as response:
        assert response.status == 200
    assert simulator.url == url


async def test_calls_are_counted_by_operation_and_image(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    digest = (await posted(api, "nginx:1.25"))["imageDigest"]
    for _ in range(2):
        async with api.get(f"/v1/images/{digest}/check", params={"tag": NGINX}):
            pass
    assert (simulator.calls("image_add"), simulator.calls("check")) == (1, 2)
    assert (simulator.calls("image_add", "docker.io/nginx:1.25"), simulator.calls("check", digest)) == (1, 2)
    assert (simulator.calls("check", NGINX), simulator.calls("check", SSHD)) == (2, 0)


async def test_equal_requests_at_once_collide_when_traps_are_set() -> None:
    async with anchore(concurrency_traps=True) as simulator, client(simulator) as api:

        async def status(method: str, path: str, **more: Any) -> int:
            async with api.request(method, path, **more) as response:
                return response.status

        adds = await asyncio.gather(*(status("POST", "/v1/images", json={"tag": BULK}) for _ in range(12)))
        digest = simulator.preload(BULK).digest
        path = f"/v1/images/{digest}/check"
        checks = await asyncio.gather(*(status("GET", path, params={"tag": BULK}) for _ in range(12)))
        asked = {"tag": BULK, "interactive": "true"}
        interactive = await asyncio.gather(*(status("GET", path, params=asked) for _ in range(12)))
        known = await asyncio.gather(*(status("POST", "/v1/images", json={"tag": BULK}) for _ in range(12)))
    assert set(adds) == {200, 500}
    assert set(checks) == {200, 404}
    assert set(interactive) == set(known) == {200}


async def test_the_door_over_http(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    async def command(name: str, **body: Any) -> tuple[int, Any]:
        async with api.post(f"/simulator/{name}", json=body) as response:
            return response.status, await response.json()

    status, shown = await command("preload", reference=BULK)
    assert (status, shown["digest"]) == (200, simulator.image(BULK).digest)
    assert (await command("faults", operation="check", kind="reset", times=2))[0] == 200
    assert (await command("push", reference=BULK, content={"analysis_fails": True}))[1]["digest"] != shown[
        "digest"
    ]
    assert (await command("vulnerabilities", reference=NGINX, vulnerabilities=[]))[0] == 200
    assert (await command("analysis", seconds=3.5, reference=NGINX))[0] == 200
    assert (await command("faults", operation="check", kind="explode"))[0] == 400
    assert (await command("preload", reference="registry.example/no/such:1"))[0] == 400
    assert (await command("no-such-command"))[0] == 404
    async with api.get("/simulator") as response:
        assert response.headers["Server"] == "moorgate-anchore-simulator"
        assert (await response.json())["calls"] == {}


async def test_it_runs_as_a_program_and_ends_at_sigterm() -> None:
    arguments = ("-m", "deploy.dev.anchore", "--port", "0", "--analysis-seconds", "2", "--preload", NGINX)
    program = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    async with asyncio.timeout(20):
        url = (await program.stdout.readline()).decode().split()[-1]
        async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/") as response:
            assert await response.json() == "v1"
        program.terminate()
        _, errors = await program.communicate()
    assert program.returncode == 0
    assert b"a simulator, not an Anchore Engine" in errors


def test_every_setting_is_an_option_of_the_program() -> None:
    webhooks = "general=http://a.example/?x=1,policy_eval=http://b.example"
    options = f"--apis v2 --check-curve recorded --no-feeds-synced --preload {NGINX} --webhooks {webhooks}"
    settings, preloaded = read_arguments(options.split())
    assert (settings.apis, settings.check_curve, settings.feeds_synced) == (("v2",), "recorded", False)
    assert settings.webhooks == {"general": "http://a.example/?x=1", "policy_eval": "http://b.example"}
    assert preloaded == [NGINX]
