"""What the simulator posts to webhooks: the recorded envelopes and payloads, at the events that cause them, and their retries.

A real receiver takes the posts. No test waits for a timer: `deliver` runs the notifications, and the door can post any at once.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from deploy.dev.anchore.catalogue import Vulnerability
from deploy.dev.anchore.notifications import KINDS
from tests.support.anchore import Simulator, bundle, posted, rule
from tests.support.recordings import FOLDER, load
from tests.support.webhooks import BULK, Receiver, receiving, telling

RECORDED = {"analysis_update": 190, "policy_eval": 194, "vuln_update": 222, "tag_update": 302}
"""A recorded post of each kind."""

LOW = Vulnerability(id="CVE-2026-2", package="tar", version="1", severity="Low")
MEDIUM = Vulnerability(id="CVE-2026-2", package="tar", version="1", severity="Medium")
CRITICAL = Vulnerability(id="CVE-2026-1", package="openssl", version="1", severity="Critical", fix="2")
HIGH = Vulnerability(id="CVE-2026-3", package="bash", version="1", severity="High")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


async def check(simulator: Simulator, api: aiohttp.ClientSession, **query: str) -> None:
    digest = simulator.image(BULK).digest
    async with api.get(f"/v1/images/{digest}/check", params={"tag": BULK, **query}) as response:
        assert response.status == 200


async def test_the_end_of_an_analysis_is_told(receiver: Receiver) -> None:
    async with telling(receiver, analysis_seconds=10) as (simulator, api):
        digest = (await posted(api, BULK))["imageDigest"]
        assert await simulator.deliver() == 0
        simulator.engine.clock.advance(10)
        assert await simulator.deliver() == 1
        assert await simulator.deliver() == 0
    [payload] = receiver.payloads
    assert receiver.paths == ["/hooks/general/analysis_update/admin"]
    assert (payload["subscription_key"], payload["curr_eval"]["imageDigest"]) == (BULK, digest)


async def test_a_moved_tag_is_told(receiver: Receiver) -> None:
    async with telling(receiver, "tag_update") as (simulator, _):
        before = simulator.image(BULK).digest
        after = simulator.push(BULK).digest
        simulator.look_again()
        await simulator.deliver()
    told = {
        path.split("/")[3]: payload for path, payload in zip(receiver.paths, receiver.payloads, strict=True)
    }
    assert (told["tag_update"]["last_eval"], told["tag_update"]["curr_eval"]) == ([before], [after])


async def test_changed_findings_are_told_as_a_difference(receiver: Receiver) -> None:
    async with telling(receiver, "vuln_update") as (simulator, _):
        simulator.set_vulnerabilities(BULK, (LOW, CRITICAL))
        simulator.set_vulnerabilities(BULK, (MEDIUM, HIGH))
        simulator.set_vulnerabilities(BULK, (MEDIUM, HIGH))
        await simulator.deliver()
    first, second = (payload["diff_vulnerability_result"] for payload in receiver.payloads)
    shown = {name: [finding["CVE_ID"] for finding in second[name]] for name in second}
    assert [finding["CVE_ID"] for finding in first["added"]] == [LOW.id, CRITICAL.id]
    assert shown == {"added": [HIGH.id], "removed": [CRITICAL.id], "updated": [LOW.id]}


async def test_a_changed_final_action_is_told_once(receiver: Receiver) -> None:
    async with telling(receiver, "policy_eval") as (simulator, api):
        await check(simulator, api)
        async with api.post("/v1/policies", json=bundle(rule("always", "always"), name="deny")):
            pass
        await check(simulator, api, policyId="deny", interactive="true")
        assert await simulator.deliver() == 0
        for _ in range(2):
            await check(simulator, api, policyId="deny")
        await simulator.deliver()
    [payload] = receiver.payloads
    assert (payload["last_eval"]["status"], payload["curr_eval"]["status"]) == ("pass", "fail")
    assert payload["curr_eval"]["bundle"]["id"] == "deny"


async def test_without_a_subscription_nothing_is_told(receiver: Receiver) -> None:
    async with telling(receiver) as (simulator, api):
        simulator.preload(BULK)
        await check(simulator, api)
        simulator.set_vulnerabilities(BULK, (CRITICAL,))
        await check(simulator, api)
        simulator.push(BULK)
        simulator.look_again()
        assert await simulator.deliver() == 0


async def test_the_types_own_webhook_comes_before_the_general_one(receiver: Receiver) -> None:
    urls = {"general": f"{receiver.url}/general", "policy_eval": f"{receiver.url}/own"}
    async with telling(receiver, "policy_eval", webhooks=urls, webhook_user="u", webhook_pass="p") as (
        simulator,
        _,
    ):
        assert await simulator.notify("policy_eval", BULK) == 1
        assert await simulator.notify("vuln_update", BULK) == 1
    assert receiver.paths == ["/own", "/general", "/general"]
    assert {headers["Authorization"] for _, headers, _ in receiver.posts} == {
        aiohttp.encode_basic_auth("u", "p")
    }
    assert {headers["Content-Type"] for _, headers, _ in receiver.posts} == {"application/json"}


async def test_a_refused_notification_is_tried_again_and_dropped_in_the_end(receiver: Receiver) -> None:
    async with telling(receiver, "policy_eval") as (simulator, _):
        receiver.statuses = [500, 404]
        assert await simulator.notify("policy_eval", BULK) == 0
        simulator.engine.clock.advance(10)
        assert await simulator.deliver() == 0
        assert await simulator.deliver() == 1
        receiver.statuses = [500] * 10
        await simulator.notify("policy_eval", BULK)
        simulator.engine.clock.advance(31)
        for _ in range(3):
            assert await simulator.deliver() == 0
    ids = [body["dataId"] for _, _, body in receiver.posts]
    assert [ids.count(name) for name in dict.fromkeys(ids)] == [3, 2]
    tries = [body["tries"] for _, _, body in receiver.posts[:3]]
    assert (tries[0], tries[1] < tries[2]) == (0, True)


async def test_notifications_are_posted_by_the_timer_too(receiver: Receiver) -> None:
    async with telling(receiver, notification_seconds=0.01) as (_, api):
        await posted(api, BULK)
        async with asyncio.timeout(10):
            await receiver.was_posted.wait()
    assert receiver.paths == ["/hooks/general/analysis_update/admin"]


@pytest.mark.skipif(not FOLDER.exists(), reason=f"no recordings at {FOLDER}: payloads are NOT compared")
@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_payloads_have_the_recorded_shape(receiver: Receiver, kind: str) -> None:
    recorded = next(recording for recording in load() if recording.number == RECORDED[kind])
    assert recorded.is_from_engine
    async with telling(receiver, "vuln_update", "policy_eval") as (simulator, api):
        await check(simulator, api)
        simulator.set_vulnerabilities(BULK, (LOW, CRITICAL))
        simulator.set_vulnerabilities(BULK, (MEDIUM, HIGH))
        await check(simulator, api)
        for name in ("tag_update", "analysis_update"):
            await simulator.notify(name, BULK)
        assert await simulator.deliver() == 0
    told = [body for _, _, body in receiver.posts if body["queueId"] == kind][-1]
    assert set(shape(told)) == set(shape(recorded.request["body"]))


def shape(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all fields outside of bundles and results, which other contracts hold, with their types."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in {"bundle", "result", "annotations", "matched_mapping_rule"}:
                yield from shape(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from shape(inner, f"{path}[]")
    else:
        yield f"{path}: {type(value).__name__}"


async def test_the_door_posts_any_notification_now(receiver: Receiver) -> None:
    async with telling(receiver) as (simulator, api):
        simulator.preload(BULK)

        async def command(name: str, **body: Any) -> tuple[int, Any]:
            async with api.post(f"/simulator/{name}", json=body) as response:
                return response.status, await response.json()

        for kind in KINDS:
            assert await command("notify", kind=kind, reference=BULK) == (200, 1)
        given = {"anything": True}
        assert await command("notify", kind="policy_eval", reference=BULK, account="x", payload=given) == (
            200,
            1,
        )
        assert await command("deliver") == (200, 0)
        assert (await command("notify", kind="no-such", reference=BULK))[0] == 400
        assert (await command("notify", kind="tag_update", reference="registry.example/bulk/other:1"))[
            0
        ] == 400
    assert [path.split("/")[3] for path in receiver.paths] == [*KINDS, "policy_eval"]
    assert receiver.payloads[-1]["anything"] is True
    assert receiver.posts[-1][2]["userId"] == "x"
