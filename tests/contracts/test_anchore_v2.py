"""The simulator's API v2 against the API description of the real server: every answer, good or bad, has the described shape.

Policies and verdicts are in test_anchore_v2_policies.py, endpoints of notifications in test_anchore_v2_endpoints.py.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.dev.anchore.calls import Operation
from deploy.dev.anchore.faults import Fault
from deploy.dev.anchore.operations_v2 import rows
from tests.support.anchore import Settings, Simulator, anchore, client
from tests.support.anchore_v2 import Api, description, judged

NGINX = "docker.io/library/nginx:1.25"
BULK = "registry.example/bulk/a:1"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with anchore() as running:
        yield running


@pytest.fixture
async def api(simulator: Simulator) -> AsyncIterator[Api]:
    async with client(simulator) as session:
        yield judged(session)


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.name}-{row.method}")
def test_every_operation_is_described_with_its_permission_and_parameters(row: Operation) -> None:
    judge = description()
    path = row.path.replace("(v2/?)?", "v2").replace("(v2/)?", "v2/").replace("{endpoint}", "webhook")
    operation = judge.operation(row.method, path)
    if row.name != "self_account":  # every user has that permission for his own account
        assert operation["x-anchore-authz-action"] == str(row.action)
    query = [item for item in operation.get("parameters", []) if item.get("in") == "query"]
    assert {item["name"] for item in query if item.get("required")} == set(row.needed)
    assert {item["name"] for item in query if item["schema"]["type"] == "boolean"} == set(row.booleans)
    choices = {item["name"]: tuple(item["schema"]["enum"]) for item in query if "enum" in item["schema"]}
    assert choices == {name: values for name, values, _ in row.choices}


async def test_the_server_about_itself(api: Api) -> None:
    assert await api.get("/v2/") == "v2"
    assert await api.ask("GET", "/v2/health") == (200, None)
    assert (await api.get("/v2/version"))["api"] == {"version": "2"}
    assert (await api.get("/v2/status"))["available"] is True
    assert [feed["name"] for feed in await api.get("/v2/system/feeds")] != []
    assert (await api.ask("POST", "/v2/system/feeds"))[0] == 200


async def test_an_image_is_one_object(api: Api) -> None:
    source = {"tag": {"pull_string": NGINX}}
    _, added = await api.ask("POST", "/v2/images", {"source": source}, auto_subscribe="true")
    assert added["image_detail"][0]["full_tag"] == NGINX
    digest = added["image_digest"]
    image = await api.get(f"/v2/images/{digest}")
    assert (image["analysis_status"], image["account_name"]) == ("analyzed", "admin")
    assert image["image_content"]["metadata"]["arch"] == "amd64"
    assert (await api.get("/v2/images", full_tag=NGINX))["items"] == [image]
    assert (await api.get("/v2/images", image_id="other"))["items"] == []
    found = await api.get("/v2/subscriptions", subscription_key=NGINX, subscription_type="tag_update")
    assert found[0]["active"] is True


async def test_an_image_by_digest(simulator: Simulator, api: Api) -> None:
    image = simulator.image(BULK)
    pulled = f"{BULK.partition(':')[0]}@{image.digest}"
    body = {"source": {"digest": {"pull_string": pulled, "tag": BULK}}, "annotations": {"team": "web"}}
    status, added = await api.ask("POST", "/v2/images", body)
    assert (status, added["image_digest"], added["annotations"]) == (200, image.digest, {"team": "web"})
    assert simulator.calls("image_add", BULK) == simulator.calls("image_add", pulled) == 1


async def test_an_image_before_its_analysis() -> None:
    async with anchore(analysis_seconds=60) as simulator, client(simulator) as session:
        api = judged(session)
        _, added = await api.ask("POST", "/v2/images", {"source": {"tag": {"pull_string": BULK}}})
        digest = added["image_digest"]
        assert (await api.get(f"/v2/images/{digest}"))["analysis_status"] == "analyzing"
        status, body = await api.ask("GET", f"/v2/images/{digest}/check", tag=BULK)
        assert (status, body["message"]) == (404, "image is not analyzed - analysis_status: analyzing")


async def test_deletion(simulator: Simulator, api: Api) -> None:
    digest = simulator.preload(BULK).digest
    _, refused = await api.ask("DELETE", f"/v2/images/{digest}")
    _, done = await api.ask("DELETE", f"/v2/images/{digest}", force="true")
    _, many = await api.ask("DELETE", "/v2/images", image_digests="sha256:0")
    assert [refused["status"], done["status"], many[0]["status"]] == [
        "delete_failed",
        "deleting",
        "not_found",
    ]


async def test_accounts_and_users(simulator: Simulator, api: Api) -> None:
    assert [shown["name"] for shown in await api.get("/v2/accounts")] == ["admin"]
    assert (await api.ask("POST", "/v2/accounts", {"name": "tenant"}))[0] == 200
    assert (await api.ask("POST", "/v2/accounts", {"name": "tenant"}))[0] == 409
    assert (await api.get("/v2/accounts/tenant"))["state"] == "enabled"
    bob = {"username": "bob", "password": "secret1"}
    _, added = await api.ask("POST", "/v2/accounts/tenant/users", bob)
    assert (added["username"], added["account_name"]) == ("bob", "tenant")
    assert (await api.ask("POST", "/v2/accounts/tenant/users", bob))[0] == 400
    assert (await api.ask("POST", "/v2/accounts/tenant/users", {"username": "eve"}))[0] == 400
    assert await api.get("/v2/accounts/tenant/users/bob") == added
    assert await api.get("/v2/accounts/tenant/users") == [added]
    credential = {"type": "password", "value": "secret2"}
    assert (await api.ask("POST", "/v2/accounts/tenant/users/bob/credentials", credential))[0] == 200
    async with client(simulator, ("bob", "secret2")) as session:
        own = judged(session)
        assert (await own.get("/v2/account"))["name"] == "tenant"
        assert (await own.get("/v2/user"))["username"] == "bob"
        assert (await own.get("/v2/user/credentials"))[0]["value"] == "*******"
        assert (await own.ask("POST", "/v2/user/credentials", credential))[0] == 200
        assert (await own.ask("GET", "/v2/accounts"))[0] == 403
    assert (await api.ask("DELETE", "/v2/accounts/tenant/users/bob"))[0] == 204
    assert (await api.ask("GET", "/v2/accounts/tenant/users/bob"))[0] == 404
    assert (await api.ask("DELETE", "/v2/accounts/tenant"))[0] == 400
    assert (await api.ask("PUT", "/v2/accounts/tenant/state", {"state": "disabled"}))[0] == 200
    assert await api.ask("DELETE", "/v2/accounts/tenant") == (204, None)
    assert [shown["name"] for shown in await api.get("/v2/accounts", state="deleting")] == ["tenant"]


async def test_registries(api: Api) -> None:
    path = "/v2/registries/private.example"
    body = {
        "registry": "private.example",
        "registry_user": "u",
        "registry_pass": "p",
        "registry_verify": True,
    }
    _, [added] = await api.ask("POST", "/v2/registries", body)
    assert (added["account_name"], "registry_pass" in added) == ("admin", False)
    assert (await api.ask("POST", "/v2/registries", body))[0] == 500
    assert (await api.ask("PUT", path, {**body, "registry_user": "v"}))[1][0]["registry_user"] == "v"
    assert await api.get("/v2/registries") == await api.get(path)
    assert await api.ask("DELETE", path) == (204, None)
    assert (await api.ask("GET", path))[0] == 404
    unreachable = {"registry": "unreachable.example"}
    assert (await api.ask("POST", "/v2/registries", unreachable))[0] == 406
    assert (await api.ask("POST", "/v2/registries", unreachable, validate="false"))[0] == 200


async def test_subscriptions(api: Api) -> None:
    body = {"subscription_key": BULK, "subscription_type": "policy_eval", "subscription_value": None}
    _, [added] = await api.ask("POST", "/v2/subscriptions", body)
    path = f"/v2/subscriptions/{added['subscription_id']}"
    assert (added["active"], added["account_name"]) == (False, "admin")
    assert (await api.ask("POST", "/v2/subscriptions", body))[0] == 500
    assert (await api.ask("PUT", path, {"active": True}))[1][0]["active"] is True
    assert await api.get("/v2/subscriptions", subscription_key=BULK) == await api.get(path)
    assert await api.ask("DELETE", path) == (204, None)
    assert await api.get(path) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/v2/images", {}, (400, "BadRequest", "The source property must have at least one of tag, digest, or archive set to non-null")),
        ("POST", "/v2/images", {"source": {"tag": {"pullstring": NGINX}}}, (400, "BadRequest", "'pull_string' is a required property - 'source.tag'")),
        ("POST", "/v2/images", {"source": {"tag": {"pull_string": "registry.example/no/such:1"}}}, (400, "BadRequest", "cannot fetch image digest/manifest from registry")),
        ("GET", f"/v2/images/sha256:{'0' * 64}", None, (404, "NotFound", "image not found in DB")),
        ("GET", "/v2/images?full_tag=a/b:1", None, (404, "NotFound", "image data not found in DB")),
        ("GET", f"/v2/images/sha256:{'0' * 64}/check", None, (400, "BadRequest", "Missing query parameter 'tag'")),
        ("GET", "/v2/policies/no", None, (404, "NotFound", "Policy bundle no not found in DB")),
    ],
)  # fmt: skip
async def test_errors_have_one_shape(
    api: Api, method: str, path: str, body: Any, expected: tuple[int, str, str]
) -> None:
    path, _, query = path.partition("?")
    named_query = dict([query.split("=")]) if query else {}
    status, answer = await api.ask(method, path, body, is_sound=False, **named_query)
    assert (status, answer["error_type"], answer["message"]) == expected


async def test_faults_and_counters_are_for_both_apis(simulator: Simulator, api: Api) -> None:
    digest = simulator.preload(NGINX).digest
    simulator.add_fault(Fault(operation="check", kind="no_evaluation", times=2))
    path = f"/v2/images/{digest}/check"
    said = "could not find any evaluations for input images"
    assert (await api.ask("GET", path, tag=NGINX))[1]["message"] == said
    assert (await api.earlier("GET", path.replace("v2", "v1"), tag=NGINX))["message"] == said
    assert (await api.ask("GET", path, tag=NGINX))[0] == 200
    assert (simulator.calls("check"), simulator.calls("check", NGINX)) == (3, 3)


async def test_an_unserved_api_is_an_unknown_route() -> None:
    for served, other in (("v1", "v2"), ("v2", "v1")):
        async with anchore(apis=(served,)) as simulator, client(simulator) as session:
            async with session.get("/") as response:
                assert await response.json() == served
            for path in ("/health", "/version", f"/{served}/health", f"/{served}/policies"):
                async with session.get(path) as response:
                    assert response.status == 200, path
            for path in ("", "/health", "/policies", "/images"):
                async with session.get(f"/{other}{path}") as response:
                    assert (response.status, response.content_type) == (404, "application/problem+json")


def test_an_unknown_api_is_refused() -> None:
    with pytest.raises(ValueError, match="v3"):
        Simulator(Settings(apis=("v3",)))
