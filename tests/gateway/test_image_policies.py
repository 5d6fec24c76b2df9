"""ImagePolicies as the watch feeds them, and the conditions that are written about them."""

import asyncio
from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest

from services.gateway import image_policies
from services.gateway.image_policies import (
    ACCEPTED,
    ImagePolicies,
    ImagePolicy,
    report_conditions,
)
from shared.cluster import APPLY, Cluster
from shared.contracts import Mode, TenantRecord
from shared.errors import Unavailable
from shared.image_policies import PolicyStatus
from tests.support.builders import START, at, rule, tenant_record

NOBODY = "nobody"


def tenants(name: str) -> TenantRecord | None:
    return None if name == NOBODY else tenant_record(name)


def policy(name: str, generation: int = 1, status: PolicyStatus | None = None, **spec: Any) -> ImagePolicy:
    found = {"metadata": {"name": name, "generation": generation}, "spec": spec}
    item = msgspec.json.decode(msgspec.json.encode(found), type=ImagePolicy)
    return msgspec.structs.replace(item, status=status or PolicyStatus())


def fed(*items: ImagePolicy) -> ImagePolicies:
    policies = ImagePolicies(rule())
    policies.replace(list(items))
    return policies


def mode(policies: ImagePolicies) -> Mode:
    return policies.rules.rule_for({}, "docker.io/library/nginx:1", "nginx:1", tenants).mode


def test_the_feed_is_what_matches() -> None:
    policies = fed(policy("a", mode="warn"))
    assert (len(policies), mode(policies)) == (1, Mode.WARN)
    policies.put(policy("b", priority=1, mode="audit"))
    assert mode(policies) is Mode.AUDIT
    policies.put(policy("b", priority=-1, mode="audit"))
    assert mode(policies) is Mode.WARN
    policies.remove(policy("a"))
    assert mode(policies) is Mode.AUDIT
    policies.replace([])
    assert (len(policies), mode(policies)) == (0, Mode.ENFORCE)


@pytest.mark.parametrize("odd", [{"mode": "block"}, {"images": "nginx"}, {"onError": 5}])
def test_a_spec_nobody_can_read_keeps_its_place_and_decides_nothing(odd: dict[str, Any]) -> None:
    policies = fed(policy("odd", priority=2, **odd), policy("below", priority=1, mode="off"))
    found = policies.rules.rule_for({}, "docker.io/library/nginx:1", "nginx:1", tenants)
    assert found == rule(policy="odd")
    [(name, condition), _] = sorted(policies.conditions_to_write(tenants, START), reverse=True)
    assert (name, condition.status, condition.reason) == ("odd", "False", "Unreadable")
    policies.put(policy("below", priority=3, mode="off"))
    assert mode(policies) is Mode.OFF, "its priority can be read, so it stands where it says"


def test_a_spec_whose_priority_cannot_be_read_stands_first_of_all() -> None:
    odd, above = policy("odd", priority="high", mode="off"), policy("above", priority=2**30, mode="off")
    assert mode(fed(odd, above)) is Mode.ENFORCE


def written(policies: ImagePolicies, seconds: float) -> dict[str, tuple[str, str, int]]:
    conditions = policies.conditions_to_write(tenants, at(seconds))
    return {name: (each.status, each.reason, each.observed_generation) for name, each in conditions}


def test_a_condition_is_written_only_when_it_changes() -> None:
    new = policy("p", tenant=NOBODY)
    [(_, condition)] = fed(new).conditions_to_write(tenants, START)
    stored = PolicyStatus(conditions=(condition,))
    assert written(fed(policy("p", tenant=NOBODY, status=stored)), 60) == {}
    touched = fed(policy("p", generation=2, tenant=NOBODY, priority=1, status=stored))
    assert written(touched, 60) == {"p": ("False", "UnknownTenant", 2)}
    [(_, again)] = touched.conditions_to_write(tenants, at(60))
    assert again.last_transition_time == START, "its status has not changed"
    mended = fed(policy("p", generation=3, status=stored))
    assert written(mended, 60) == {"p": ("True", "Accepted", 3)}
    [(_, sound)] = mended.conditions_to_write(tenants, at(60) + timedelta(microseconds=7))
    assert sound.last_transition_time == at(60)


class Server:
    """An API server that takes conditions, save for those that it refuses."""

    def __init__(self, *away: str) -> None:
        self.away = set(away)
        self.taken: asyncio.Queue[str] = asyncio.Queue()
        self.options: dict[str, Any] = {}

    async def request(self, method: str, path: str, *, body: bytes, **options: Any) -> bytes:
        assert method == "PATCH"
        name = path.split("/")[-2]
        if name in self.away:
            raise Unavailable("cluster", "away")
        self.options = options
        self.body = msgspec.json.decode(body)
        self.taken.put_nowait(name)
        return b""


async def test_one_that_cannot_be_written_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_policies, "LOOK_AGAIN", 0.05)
    server, policies = Server("a"), fed(policy("a"), policy("b"))
    reporting = asyncio.create_task(report_conditions(cast("Cluster", server), policies, tenants))
    try:
        async with asyncio.timeout(5):
            assert await server.taken.get() == "b"
            assert server.options["content_type"] == APPLY
            [condition] = server.body["status"]["conditions"]
            assert (condition["type"], condition["status"]) == (ACCEPTED, "True")
            server.away.clear()
            while await server.taken.get() != "a":
                pass
            policies.put(policy("c"))
            while await server.taken.get() != "c":
                pass
    finally:
        reporting.cancel()
