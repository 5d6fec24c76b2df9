"""Each image with its rule and its evidence: what is asked, what is waited for, and what is known without."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest

from services.gateway.deadlines import Deadline
from services.gateway.decision import Judged
from services.gateway.findings import Finding, Question
from services.gateway.image_policies import ImagePolicies, ImagePolicy
from services.gateway.judge import Judge, Patience
from services.gateway.namespaces import Namespaces
from services.gateway.verdict_lookup import Source, VerdictLookup
from services.gateway.workloads import Workload
from shared.contracts import ContainerKind, ErrorClass, Mode, Outcome, Result
from shared.crds import WhiteListItem
from shared.evidence import Ask, Evidence
from shared.pods import PodImage
from shared.subjects import running_key
from tests.support.builders import BUNDLE, DIGEST, pod_image, rule, tenant_record, verdict, whitelist_item


class Lookup:
    """Knows a verdict of every image; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.result = Result.PASS

    async def find(
        self, questions: list[Question], namespace: str, deadline: Deadline, trace: str
    ) -> tuple[list[Finding], Source]:
        assert (namespace, trace, deadline.remaining > 0) == ("shop", "trace", True)
        self.asked = questions
        return [self._finding(each) for each in questions], Source.MEMORY

    def _finding(self, question: Question) -> Finding:
        known = verdict(self.result, since=datetime.now(UTC), image=str(question.reference))
        outcome = Outcome.PASS if self.result is Result.PASS else Outcome.FAIL
        return Finding(Evidence(outcome=outcome, ask=Ask.NO, verdict=known), BUNDLE)


class Labels:
    """Namespaces, or none to be had."""

    def __init__(self) -> None:
        self.known: Mapping[str, str] | None = {}
        self.asked = 0

    async def labels(self, name: str, seconds: float) -> Mapping[str, str] | None:
        assert (name, seconds > 0) == ("shop", True)
        self.asked += 1
        return self.known


class World:
    def __init__(self, *policies: dict[str, Any]) -> None:
        self.lookup, self.labels = Lookup(), Labels()
        self.running: set[str] = set()
        self.policies = ImagePolicies(rule())
        for number, spec in enumerate(policies):
            found = {"metadata": {"name": f"p{number}"}, "spec": spec}
            self.policies.put(msgspec.json.decode(msgspec.json.encode(found), type=ImagePolicy))
        self.judge = Judge(
            policies=self.policies,
            namespaces=cast("Namespaces", self.labels),
            lookup=cast("VerdictLookup", self.lookup),
            tenants=tenant_record,
            is_running=lambda key: key in self.running,
        )

    async def judged(self, *images: str, items: list[WhiteListItem] | None = None) -> list[Judged]:
        workload = Workload(
            kind="Pod",
            namespace="shop",
            name="web",
            uid="1",
            labels={},
            owner=None,
            images=tuple(pod_image(image, f"c{number}") for number, image in enumerate(images)),
        )
        soon = Deadline(asyncio.get_running_loop().time() + 1)
        judged, source = await self.judge.judge(workload, items or [], Patience(soon, soon), "trace")
        assert source is Source.MEMORY
        return judged


async def test_without_policies_no_namespace_needs_to_be_known() -> None:
    world = World()
    [judged] = await world.judged("nginx:1")
    assert world.labels.asked == 0
    assert (judged.rule, judged.bundle_id) == (rule(), BUNDLE)
    assert judged.image == PodImage("c0", ContainerKind.CONTAINER, "nginx:1")
    assert judged.reference == "docker.io/library/nginx:1"
    assert judged.evidence.outcome is Outcome.PASS


async def test_labels_not_to_be_had_mean_the_process_defaults() -> None:
    world = World({"mode": "off"})
    assert (await world.judged("nginx:1"))[0].rule.mode is Mode.OFF
    world.labels.known = None
    assert (await world.judged("nginx:1"))[0].rule == rule()


async def test_each_image_keeps_its_place_whatever_was_asked() -> None:
    world = World({"mode": "off", "images": ["*/off:*"]})
    judged = await world.judged("off:1", "nginx:1", "NOT an image", "off:2", "redis:7")
    assert [each.evidence.outcome for each in judged] == [
        Outcome.NOT_ASKED,
        Outcome.PASS,
        Outcome.ERROR,
        Outcome.NOT_ASKED,
        Outcome.PASS,
    ]
    assert [str(each.reference) for each in world.lookup.asked] == [
        "docker.io/library/nginx:1",
        "docker.io/library/redis:7",
    ]
    assert [each.evidence.verdict.image for each in judged if each.evidence.verdict] == [
        "docker.io/library/nginx:1",
        "docker.io/library/redis:7",
    ]


async def test_what_is_no_reference_is_an_error_with_its_text() -> None:
    [judged] = await World().judged("NOT an image")
    assert (judged.reference, judged.evidence.error) == ("", ErrorClass.BAD_REFERENCE)
    assert judged.evidence.error_message


@pytest.mark.parametrize(("mode", "waits"), [("enforce", True), ("warn", False), ("audit", False)])
async def test_only_what_can_be_refused_is_worth_waiting_for(mode: str, waits: bool) -> None:  # noqa: FBT001  a row of the table
    world = World({"mode": mode})
    await world.judged("nginx:1")
    assert [each.is_worth_waiting for each in world.lookup.asked] == [waits]


async def test_a_whitelisted_image_is_asked_for_and_not_waited_for() -> None:
    world = World()
    items = [whitelist_item("only-redis", images=("*/redis:*",)), whitelist_item("all")]
    judged = await world.judged("nginx:1", "redis:7", items=items)
    assert [each.whitelist_item for each in judged] == ["all", "only-redis"]
    assert [each.is_worth_waiting for each in world.lookup.asked] == [False, False]
    judged = await world.judged("nginx:1", "redis:7", items=items[:1])
    assert [each.whitelist_item for each in judged] == [None, "only-redis"]
    assert [each.is_worth_waiting for each in world.lookup.asked] == [True, False]


async def test_a_failing_incumbent_has_its_grace_by_its_own_rule() -> None:
    world = World({"incumbentGrace": "1h", "images": ["*/nginx:*"]})
    world.lookup.result = Result.FAIL
    world.running = {running_key("shop", DIGEST)}
    graced, plain = await world.judged("nginx:1", "redis:7")
    assert plain.grace_until is None
    assert graced.grace_until is not None
    assert timedelta(minutes=59) < graced.grace_until - datetime.now(UTC) <= timedelta(hours=1)
    world.running = {running_key("elsewhere", DIGEST)}
    assert (await world.judged("nginx:1"))[0].grace_until is None
