"""Policies and verdicts of the simulator's API v2: as the API description says, and one state with API v1's.

The same image gets the same verdict from both APIs, and a policy that one stored is shown by the other in its own spelling.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.dev.anchore.catalogue import Vulnerability
from deploy.dev.anchore.evaluation import formats
from tests.support.anchore import Simulator, anchore, bundle, client, rule
from tests.support.anchore_v2 import Api, judged, named, policy

NGINX = "docker.io/library/nginx:1.25"
SSHD = "registry.example/team/sshd:1.0"
LEGACY = "registry.example/shop/legacy:1.0"
BULK = "registry.example/bulk/a:1"

CRITICAL = Vulnerability(id="CVE-2026-1", package="openssl", version="1", severity="Critical", fix="2")

ALWAYS = {**rule("always", "always"), "recommendation": "Use another image."}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with anchore() as running:
        yield running


@pytest.fixture
async def api(simulator: Simulator) -> AsyncIterator[Api]:
    async with client(simulator) as session:
        yield judged(session)


@pytest.mark.parametrize(("name", "expected"), [(NGINX, "pass"), (SSHD, "fail"), (LEGACY, "fail")])
async def test_both_apis_judge_alike(simulator: Simulator, api: Api, name: str, expected: str) -> None:
    digest = simulator.preload(name).digest
    checked = await api.get(f"/v2/images/{digest}/check", tag=name)
    [evaluation] = checked["evaluations"]
    assert (checked["image_digest"], checked["evaluated_tag"], evaluation["status"]) == (
        digest,
        name,
        expected,
    )
    [by_digest] = await api.earlier("GET", f"/v1/images/{digest}/check", tag=name)
    [[earlier]] = by_digest[digest].values()
    table = next(iter(earlier["detail"]["result"]["result"].values()))["result"]
    assert earlier["status"] == expected
    assert [finding["trigger_id"] for finding in evaluation["details"]["findings"]] == [
        row[2] for row in table["rows"]
    ]
    assert evaluation["details"]["policy_action"] == table["final_action"]
    assert evaluation["image_mapped_to_rule"] is True
    assert evaluation["number_of_findings"] == table["row_count"]


async def test_a_finding_names_its_rule_and_recommendation(simulator: Simulator, api: Api) -> None:
    assert (await api.ask("POST", "/v2/policies", policy(ALWAYS)))[0] == 200
    evaluation = await checked(simulator, api, BULK, policy_id="p")
    [finding] = evaluation["details"]["findings"]
    assert (finding["rule_id"], finding["recommendation"]) == (ALWAYS["id"], "Use another image.")
    assert (evaluation["final_action"], evaluation["final_action_reason"]) == ("stop", "policy_evaluation")


async def checked(simulator: Simulator, api: Api, name: str, **query: str) -> dict[str, Any]:
    """The newest evaluation of a preloaded image."""
    digest = simulator.preload(name).digest
    body = await api.get(f"/v2/images/{digest}/check", tag=name, **query)
    found: dict[str, Any] = body["evaluations"][0]
    return found


DENIED = {"denylisted_images": [named("no", repository="bulk/*")]}
ALLOWED = {"allowlisted_images": [named("yes", repository="bulk/*")]}
PARDONED = {
    "allowlists": [
        {
            "id": "pardons",
            "name": "pardons",
            "version": "2",
            "items": [{"id": "i", "gate": "always", "trigger_id": "*", "expires_on": None}],
        }
    ]
}


@pytest.mark.parametrize(
    ("more", "action", "reason"),
    [
        ({}, "stop", "policy_evaluation"),
        (PARDONED, "go", "policy_evaluation"),
        ({"mappings": []}, "go", "policy_evaluation"),
        (ALLOWED, "go", "allowlisted"),
        (DENIED, "stop", "denylisted"),
        (ALLOWED | DENIED, "stop", "denylisted"),
    ],
)
async def test_the_reasons_of_a_verdict(
    simulator: Simulator, api: Api, more: dict[str, Any], action: str, reason: str
) -> None:
    assert (await api.ask("POST", "/v2/policies", policy(ALWAYS, **more)))[0] == 200
    evaluation = await checked(simulator, api, BULK, policy_id="p")
    assert (evaluation["final_action"], evaluation["final_action_reason"]) == (action, reason)
    assert evaluation["image_denylisted"] == ("denylisted_images" in more)
    assert evaluation["image_allowlisted"] == ("allowlisted_images" in more)
    assert evaluation["image_mapped_to_rule"] == ("mappings" not in more)
    assert [finding["allowlisted"] for finding in evaluation["details"]["findings"]] == (
        [] if "mappings" in more else [more == PARDONED]
    )


async def test_detail_and_history(simulator: Simulator, api: Api) -> None:
    assert (await checked(simulator, api, BULK))["final_action"] == "go"
    simulator.set_vulnerabilities(BULK, (CRITICAL,))
    assert (await checked(simulator, api, BULK, detail="false", interactive="true"))["details"] is None
    digest = simulator.image(BULK).digest
    shown = []
    for interactive in ("true", "false"):
        await checked(simulator, api, BULK, interactive=interactive)
        history = await api.get(f"/v2/images/{digest}/check", tag=BULK, history="true", interactive="true")
        shown.append({evaluation["final_action"] for evaluation in history["evaluations"]})
    assert shown == [{"go"}, {"go", "stop"}]
    assert (await api.ask("POST", "/v2/policies", policy()))[0] == 200
    other = await api.get(f"/v2/images/{digest}/check", tag=BULK, history="true", policy_id="p")
    assert (other["policy_id"], len(other["evaluations"])) == ("p", 1)


async def test_policies(simulator: Simulator, api: Api) -> None:
    [former] = await api.get("/v2/policies")
    assert (former["active"], former["policy"]) == (True, None)
    _, added = await api.ask("POST", "/v2/policies", policy(ALWAYS))
    assert (added["active"], added["policy"]["rule_sets"][0]["rules"]) == (False, [ALWAYS])
    assert (await api.ask("POST", "/v2/policies", policy()))[0] == 409
    assert (await api.ask("PUT", "/v2/policies/p", {**added, "active": True}))[1]["active"] is True
    assert (await checked(simulator, api, NGINX))["status"] == "fail"
    assert {
        shown["policy_id"]: shown["active"] for shown in await api.get("/v2/policies", detail="true")
    } == {
        former["policy_id"]: False,
        "p": True,
    }
    assert (await api.ask("DELETE", "/v2/policies/p"))[0] == 500
    assert await api.ask("DELETE", f"/v2/policies/{former['policy_id']}") == (204, None)
    assert (await api.ask("GET", f"/v2/policies/{former['policy_id']}"))[0] == 404


async def test_a_policy_of_one_api_is_seen_in_the_other(simulator: Simulator, api: Api) -> None:
    given = bundle(rule("dockerfile", "exposed_ports", ports="22", type="blacklist"), name="earlier")
    await api.earlier("POST", "/v1/policies", given)
    later = (await api.get("/v2/policies/earlier"))["policy"]
    assert later["rule_sets"][0]["rules"][0]["params"][1] == {"name": "type", "value": "denylist"}
    later["id"] = "later"
    assert (await api.ask("POST", "/v2/policies", later))[0] == 200
    [record] = await api.earlier("GET", "/v1/policies/later")
    assert record["policybundle"]["policies"][0]["rules"] == given["policies"][0]["rules"]
    for name in ("earlier", "later"):
        assert (await checked(simulator, api, SSHD, policy_id=name))["status"] == "fail"
        assert (await checked(simulator, api, NGINX, policy_id=name))["status"] == "pass"


def test_no_policy_is_changed_by_the_way_to_v1_and_back() -> None:
    given = policy(
        {**ALWAYS, "description": "stop all"},
        rule("vulnerabilities", "denylist", vulnerability_ids="CVE-1"),
        rule("dockerfile", "effective_user", users="root", type="denylist"),
        description="everything",
        source_mappings=[
            {
                "id": "s",
                "name": "s",
                "host": "*",
                "repository": "*",
                "rule_set_ids": ["rules"],
                "allowlist_ids": [],
            }
        ],
        **ALLOWED,
        **DENIED,
    )
    given["rule_sets"][0] |= {"description": "the rules", "artifact_type": "image"}
    assert formats.to_policy(formats.to_bundle(given)) == given


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "1_0"}, "Bundle failed validation"),
        ({"policies": []}, "Additional properties are not allowed ('policies' was unexpected)"),
        ({"rule_sets": None}, "None is not of type 'array' - 'rule_sets'"),
        (
            {"mappings": [{**named("m"), "rule_set_ids": ["no"], "allowlist_ids": []}]},
            "Bundle failed validation",
        ),
    ],
)
async def test_unsound_policies_are_refused(api: Api, change: dict[str, Any], said: str) -> None:
    status, body = await api.ask("POST", "/v2/policies", policy() | change, is_sound=False)
    assert (status, body["message"]) == (400, said)


async def test_a_bundle_in_v1s_spelling_is_refused(api: Api) -> None:
    assert (await api.ask("POST", "/v2/policies", bundle(), is_sound=False))[0] == 400
