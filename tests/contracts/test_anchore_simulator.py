"""The traps of Anchore's API that the simulator keeps: states, the meanings of 404, tags, deletion, accounts, registries.

The recordings say that the shapes are right; here it is what a caller may stumble over.
"""

import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from deploy.dev.anchore.catalogue import Content, Vulnerability
from tests.support.anchore import Simulator, anchore, bundle, client, posted, rule

NGINX = "docker.io/library/nginx:1.25"
SSHD = "registry.example/team/sshd:1.0"
LEGACY = "registry.example/shop/legacy:1.0"
BULK = "registry.example/bulk/a:1"

ALWAYS = rule("always", "always")
CRITICAL = Vulnerability(id="CVE-2026-1", package="openssl", version="1", severity="Critical", fix="2")


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with anchore() as running:
        yield running


@pytest.fixture
async def api(simulator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with client(simulator) as session:
        yield session


async def test_the_catalogues_images_are_judged_as_their_names_say(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    verdicts = {name: (await checked(simulator, api, name))["status"] for name in (NGINX, SSHD, LEGACY, BULK)}
    assert verdicts == {NGINX: "pass", SSHD: "fail", LEGACY: "fail", BULK: "pass"}
    assert (await checked(simulator, api, "registry.example/bad/x:1"))["status"] == "fail"


async def checked(
    simulator: Simulator, api: aiohttp.ClientSession, name: str, **query: str
) -> dict[str, Any]:
    """The newest evaluation of a preloaded image."""
    digest = simulator.preload(name).digest
    async with api.get(f"/v1/images/{digest}/check", params={"tag": name} | query) as response:
        body = await response.json()
        assert response.status == 200, body
    [by_digest] = body
    [[evaluation]] = by_digest[digest].values()
    assert isinstance(evaluation, dict)
    return evaluation


async def said(response: aiohttp.ClientResponse) -> tuple[int, str]:
    """Status and message."""
    return response.status, (await response.json())["message"]


async def test_an_image_goes_through_its_states_by_the_clock() -> None:
    async with anchore(analysis_seconds=10, pickup_seconds=1) as simulator, client(simulator) as api:
        digest = (await posted(api, BULK))["imageDigest"]
        statuses = []
        for seconds in (0, 1, 9, 1):
            simulator.engine.clock.advance(seconds)
            async with api.get(f"/v1/images/{digest}") as response:
                statuses.append((await response.json())[0]["analysis_status"])
        assert statuses == ["not_analyzed", "analyzing", "analyzing", "analyzed"]


async def test_a_bound_on_analyses_makes_images_queue() -> None:
    async with anchore(analysis_seconds=10, parallel_analyses=1) as simulator, client(simulator) as api:
        names = [f"registry.example/bulk/x:{number}" for number in range(3)]
        for name in names:
            await posted(api, name)
        ends = []
        for _ in range(3):
            simulator.engine.clock.advance(10)
            async with api.get("/v1/images", params={"analysis_status": "analyzed"}) as response:
                ends.append(len(await response.json()))
        assert ends == [1, 2, 3]


async def test_a_failed_analysis_is_tried_again_by_the_next_post(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    name = "registry.example/broken/x:1"
    digest = (await posted(api, name))["imageDigest"]
    async with api.get(f"/v1/images/{digest}/check", params={"tag": name}) as response:
        assert await said(response) == (404, "image is not analyzed - analysis_status: analysis_failed")
    simulator.fail_analysis(name, fails=False)
    assert (await posted(api, name))["analysis_status"] == "not_analyzed"
    assert (await posted(api, name))["analysis_status"] == "analyzed"


async def test_force_analyses_again_and_believes_the_callers_dockerfile(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    assert (await checked(simulator, api, NGINX))["status"] == "pass"
    dockerfile = base64.b64encode(b"FROM scratch\nEXPOSE 22\n").decode()
    body = {"tag": NGINX, "dockerfile": dockerfile}
    async with api.post("/v1/images", json=body) as response:
        assert response.status == 400
    async with api.post("/v1/images", json=body, params={"force": "true"}) as response:
        assert (await response.json())[0]["analysis_status"] == "not_analyzed"
    digest = simulator.image(NGINX).digest
    async with api.get(f"/v1/images/{digest}/check", params={"tag": NGINX}) as response:
        [[[evaluation]]] = [list(by_digest.values()) for by_digest in (await response.json())[0].values()]
    assert evaluation["status"] == "fail"
    async with api.get(f"/v1/images/{digest}") as response:
        assert (await response.json())[0]["image_content"]["metadata"]["dockerfile_mode"] == "Actual"


async def test_checks_404_means_four_things(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    image = simulator.preload(NGINX)
    path = f"/v1/images/{image.digest}/check"
    async with api.get(f"/v1/images/sha256:{'0' * 64}/check", params={"tag": NGINX}) as response:
        assert await said(response) == (404, "image not found in DB")
    async with api.get(path, params={"tag": NGINX, "policyId": "nope"}) as response:
        assert await said(response) == (404, "Policy bundle nope not found in DB")
    simulator.stop_services("policy_engine")
    async with api.get(path, params={"tag": NGINX}) as response:
        assert await said(response) == (404, "could not find any evaluations for input images")
    simulator.stop_services()
    async with api.get("/v1/policies", params={"detail": "true"}) as response:
        [active] = await response.json()
    async with api.post("/v1/policies", json=active["policybundle"]) as response:
        assert (await response.json())["active"] is False
    async with api.get(path, params={"tag": NGINX}) as response:
        assert await said(response) == (404, "user has no active policy to evaluate: admin")


async def test_a_check_does_not_verify_the_tag_and_is_keyed_by_the_platforms_digest(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    image = simulator.preload(NGINX)
    assert image.digest != image.list_digest
    for tag, shown in (
        ("somebody/else:1", "docker.io/somebody/else:1"),
        ("redis", "docker.io/redis:latest"),
        ("%%%", "docker.io/%%%:latest"),
        (SSHD, SSHD),
    ):
        async with api.get(
            f"/v1/images/{image.list_digest}/check", params={"tag": tag, "detail": "false"}
        ) as response:
            [[(digest, evaluations)]] = [list(body.items()) for body in await response.json()]
        assert (digest, list(evaluations)) == (image.digest, [shown])


async def test_a_check_judges_by_the_bundle_as_it_is_now(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    assert (await checked(simulator, api, NGINX))["status"] == "pass"
    async with api.post("/v1/policies", json=bundle(ALWAYS, name="deny")) as response:
        assert response.status == 200
    assert (await checked(simulator, api, NGINX, policyId="deny"))["status"] == "fail"
    record = {"policyId": "deny", "active": True, "policybundle": bundle(ALWAYS, name="deny")}
    async with api.put("/v1/policies/deny", json=record) as response:
        assert (await response.json())[0]["active"] is True
    assert (await checked(simulator, api, NGINX))["policyId"] == "deny"
    record["policybundle"] = bundle(name="deny")
    async with api.put("/v1/policies/deny", json=record) as response:
        assert response.status == 200
    assert (await checked(simulator, api, NGINX))["status"] == "pass"


async def test_created_at_stays_while_nothing_changes_and_moves_with_the_findings(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    simulator.engine.clock.stop_at(2_000_000_000)
    first = await checked(simulator, api, NGINX)
    simulator.engine.clock.advance(60)
    second = await checked(simulator, api, NGINX)
    assert first["detail"]["result"]["created_at"] == second["detail"]["result"]["created_at"]
    assert first["last_evaluation"] != second["last_evaluation"]
    simulator.set_vulnerabilities(NGINX, (CRITICAL,))
    third = await checked(simulator, api, NGINX)
    assert (third["status"], third["detail"]["result"]["created_at"]) == ("fail", 2_000_000_060)


async def test_a_pushed_tag_is_noticed_by_the_next_post(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    before = simulator.preload(BULK)
    after = simulator.push(BULK, Content(vulnerabilities=(CRITICAL,)))
    async with api.get("/v1/images", params={"fulltag": BULK}) as response:
        assert [record["imageDigest"] for record in await response.json()] == [before.digest]
    assert (await posted(api, BULK))["imageDigest"] == after.digest
    async with api.get("/v1/images", params={"fulltag": BULK, "history": "true"}) as response:
        assert [record["imageDigest"] for record in await response.json()] == [after.digest, before.digest]


async def test_the_watcher_notices_only_tags_with_an_active_subscription(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    watched, unwatched = "registry.example/bulk/watched:1", "registry.example/bulk/unwatched:1"
    await posted(api, watched, autosubscribe="true")
    await posted(api, unwatched)
    pushed = {name: simulator.push(name).digest for name in (watched, unwatched)}
    simulator.look_again()
    found = {}
    for name, digest in pushed.items():
        async with api.get("/v1/images", params={"fulltag": name}) as response:
            found[name] = (await response.json())[0]["imageDigest"] == digest
    assert found == {watched: True, unwatched: False}


async def test_registries_that_refuse(api: aiohttp.ClientSession) -> None:
    codes = {}
    for name in ("unreachable.example/a:1", "private.example/team/secret:1.0", "registry.example/no/such:1"):
        async with api.post("/v1/images", json={"tag": name}) as response:
            assert response.status == 400
            codes[name] = (await response.json())["detail"]["error_codes"]
    assert list(codes.values()) == [
        ["REGISTRY_NOT_ACCESSIBLE"],
        ["REGISTRY_PERMISSION_DENIED"],
        ["REGISTRY_IMAGE_NOT_FOUND"],
    ]
    async with api.post("/v1/registries", json={"registry": "private.example"}) as response:
        assert response.status == 200
    await posted(api, "private.example/team/secret:1.0")


async def test_deletion_is_refused_while_watched_and_lingers(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    digest = simulator.preload(BULK).digest
    async with api.delete(f"/v1/images/{digest}") as response:
        assert (await response.json())["status"] == "delete_failed"
    async with api.delete(f"/v1/images/{digest}", params={"force": "true"}) as response:
        assert (await response.json())["status"] == "deleting"
    async with api.get("/v1/images", params={"fulltag": BULK}) as response:
        assert response.status == 404
    async with api.get(f"/v1/images/{digest}/check", params={"tag": BULK}) as response:
        assert response.status == 200
    simulator.engine.clock.advance(61)
    async with api.get(f"/v1/images/{digest}/check", params={"tag": BULK}) as response:
        assert response.status == 404


async def test_accounts_see_nothing_of_each_other(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    simulator.preload(NGINX)
    async with api.post("/v1/accounts", json={"name": "tenant"}) as response:
        assert response.status == 200
    async with api.post(
        "/v1/accounts/tenant/users", json={"username": "bob", "password": "secret1"}
    ) as response:
        assert response.status == 200
    async with client(simulator, ("bob", "secret1")) as bob:
        async with bob.get("/v1/images") as response:
            assert await response.json() == []
        async with bob.get("/v1/images", headers={"x-anchore-account": "admin"}) as response:
            assert response.status == 403
        async with bob.get("/v1/policies") as response:
            assert [policy["active"] for policy in await response.json()] == [True]
    async with client(simulator, account="never-made") as ghost:
        async with ghost.get("/v1/images") as response:
            assert (response.status, await response.json()) == (200, [])
        assert (await posted(ghost, BULK))["userId"] == "never-made"


async def test_neither_health_nor_status_tell_of_missing_parts(
    simulator: Simulator, api: aiohttp.ClientSession
) -> None:
    digest = simulator.preload(NGINX).digest
    simulator.stop_services("policy_engine", "catalog")
    for path in ("/health", "/v1/status", "/v1/system"):
        async with api.get(path) as response:
            assert response.status == 200
    async with api.get(f"/v1/images/{digest}") as response:
        url = f"http://127.0.0.1:8229/v1/images/{digest.replace(':', '%3A')}"
        assert await said(response) == (500, f"failed get url={url}")
