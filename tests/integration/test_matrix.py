"""Every door, every mode, every answer, through the real API server; the table goes to docs/coverage.md.

One namespace a rule, selected by its label. Where the answer is all that matters requests are dry runs:
the webhook answers them like any other.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy.dev.kubectl import Kubectl
from tests.support import matrix
from tests.support.api import (
    JSON_PATCH,
    MERGE,
    POLICIES,
    STRATEGIC,
    WHITELIST,
    Api,
    Reply,
    image_policy,
    only_in,
    pods,
    whitelist_item,
)
from tests.support.matrix import RULES, Answer, AnyCell, Cell, OutcomeCell
from tests.support.road import WatchedRoad, audit, pod, until

GOOD = "nginx:1.25"
BAD = "registry.example/bad/matrix:1"
IMAGES = {
    "passes": GOOD,
    "fails": BAD,
    "pending": "registry.example/slow/matrix:1",
    "error": "registry.example/broken/matrix:1",
}
KNOWN_BY = {"passes": 201, "fails": 403, "pending": 429, "error": 503}
"""What `enforce` answers once the outcome is known."""

WORDS = {
    "fails": "fails policy bundle",
    "pending": "is being scanned",
    "error": "has no verdict (analysis_failed",
}

OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "nobody", "uid": "1", "controller": True}

WORKLOADS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}


@dataclass
class Site:
    """A namespace for each rule, with one Pod that has every kind of container."""

    road: WatchedRoad
    namespaces: dict[str, str] = field(default_factory=dict)
    answers: dict[AnyCell, str] = field(default_factory=dict)
    release: str = field(default_factory=lambda: f"matrix-{secrets.token_hex(4)}")

    async def build(self) -> None:
        async with self.road.api() as api:
            await asyncio.gather(*(self._add(api, rule) for rule in RULES))
            item = whitelist_item(self.release, namespaces=[self.namespaces["whitelisted"]])
            await api.ok("POST", WHITELIST, item)
            await until(lambda: self.is_in_force(api), "the policies are in force")
            await asyncio.gather(
                *(api.ok("POST", pods(name), self.everything()) for name in self.namespaces.values())
            )

    async def _add(self, api: Api, rule: str) -> None:
        label = f"{self.release}-{rule}"
        self.namespaces[rule] = (await self.road.namespace(**{"test/rule": label})).namespace
        policy = image_policy(label, namespaceSelector=only_in(test__rule=label), **RULES[rule])
        await api.ok("POST", POLICIES, policy)

    async def is_in_force(self, api: Api) -> bool:
        """The one gateway of the road leads, and writes conditions of what it has."""
        listed = await api.ok("GET", POLICIES)
        conditions = {each["metadata"]["name"]: each.get("status") for each in listed["items"]}
        return all(conditions[f"{self.release}-{rule}"] for rule in RULES)

    async def clear(self) -> None:
        async with self.road.api() as api:
            for rule, name in self.namespaces.items():
                await api.ok("DELETE", f"{POLICIES}/{self.release}-{rule}")
                await api.ok("DELETE", f"/api/v1/namespaces/{name}")
            await api.ok("DELETE", f"{WHITELIST}/{self.release}")

    def pod(self, name: str, image: str, **spec: Any) -> dict[str, Any]:
        return pod(name, image, labels={"release": self.release}, schedulerName="nobody", **spec)

    def everything(self) -> dict[str, Any]:
        return self.pod(
            "everything",
            GOOD,
            initContainers=[
                {"name": "init", "image": GOOD},
                {"name": "sidecar", "image": GOOD, "restartPolicy": "Always"},
            ],
            volumes=[{"name": "volume", "image": {"reference": GOOD}}],
        )


@pytest.fixture(scope="module")
def site(road: WatchedRoad) -> Iterator[Site]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        built = Site(road)
        runner.run(built.build())
        try:
            yield built
        finally:
            runner.run(built.clear())
            if os.environ.get(matrix.WRITE):
                matrix.PAGE.write_text(matrix.render(built.answers))


@pytest.fixture
async def api(road: WatchedRoad) -> AsyncIterator[Api]:
    async with road.api() as connection:
        yield connection


@pytest.mark.parametrize("cell", matrix.CELLS, ids=str)
async def test_a_failing_image(site: Site, api: Api, cell: Cell) -> None:
    await _is_known(site, api, "fails")
    reply = await _TRIES[cell.operation](site, api, cell)
    answer = _answer(reply)
    if cell.expected is Answer.IGNORED:
        assert BAD not in str(reply.body["spec"])
        assert answer is Answer.ALLOWED
        answer = Answer.IGNORED
    assert answer is cell.expected, (reply.status, reply.message, reply.warnings)
    _says(reply, answer, "fails")
    site.answers[cell] = answer.value


@pytest.mark.parametrize("cell", matrix.OUTCOME_CELLS, ids=str)
async def test_an_outcome(site: Site, api: Api, cell: OutcomeCell) -> None:
    await _is_known(site, api, cell.outcome)
    manifest = site.pod("new", IMAGES[cell.outcome])
    manifest["metadata"]["ownerReferences"] = [OWNER]  # waits half a second at most
    reply = await api.create_pod(site.namespaces[cell.rule], manifest, dry_run=True)
    answer = _answer(reply)
    if answer is Answer.PUT_OFF and "is not admitted" in reply.message:
        answer = Answer.TOO_EARLY
    assert answer is cell.expected, (reply.status, reply.message, reply.warnings)
    _says(reply, answer, cell.outcome)
    site.answers[cell] = answer.value


def test_the_page_has_the_cells_of_these_tests_and_what_they_answered() -> None:
    cells: list[AnyCell] = [*matrix.CELLS, *matrix.OUTCOME_CELLS]
    expected = {str(cell): cell.expected.value for cell in cells}
    assert matrix.cells_of(matrix.PAGE.read_text()) == expected, f"write it anew with {matrix.WRITE}=1"


@pytest.mark.parametrize(
    ("mode", "action", "result"),
    [
        ("enforce", "reject", "Image failed policy check"),
        ("warn", "allowed", "Image failed policy check"),
        ("audit", "allowed", "Image failed policy check"),
        ("whitelisted", "allowed", "Whitelisted release"),
        ("off", "allowed", "Image not checked"),
    ],
)
async def test_what_is_recorded(site: Site, api: Api, mode: str, action: str, result: str) -> None:
    await _is_known(site, api, "fails")
    kube = Kubectl(site.road.plane, site.namespaces[mode])
    await api.create_pod(kube.namespace, site.pod(f"recorded-{mode}", BAD))
    found = await audit(kube, f"pod-recorded-{mode}")
    assert found["spec"]["action"] == action
    assert found["spec"]["result"] == [f"{result}: {BAD}"]
    assert [each["policy"] for each in found["spec"]["images"]] == [f"{site.release}-{mode}"]


async def test_only_what_is_new_is_judged(site: Site, api: Api) -> None:
    """A Pod that got in under `off`; then its namespace comes under `enforce`."""
    path = f"/api/v1/namespaces/{(kube := await site.road.namespace()).namespace}"
    await _label(api, path, f"{site.release}-off")
    old = [site.pod(name, BAD) for name in ("kept", "changed", "leaving", "gone")]
    old[2]["metadata"]["finalizers"] = ["moorgate.test/stays"]
    await until(lambda: _are_in(api, kube.namespace, old), "off is in force")
    await _label(api, path, f"{site.release}-enforce")

    async def is_enforced() -> bool:
        return (await api.create_pod(kube.namespace, site.pod("new", BAD), dry_run=True)).status == 403

    await until(is_enforced, "enforce is in force")
    kept, changed, leaving, gone = (pods(kube.namespace, each["metadata"]["name"]) for each in old)
    labels = {"metadata": {"labels": {"touched": "yes"}}}
    assert (await api.send("PATCH", kept, labels, content_type=MERGE)).status == 200
    status = {"status": {"message": "touched"}}
    assert (await api.send("PATCH", f"{kept}/status", status, content_type=MERGE)).status == 200
    replaced = _replace("/spec/containers/0/image", GOOD)
    assert (await api.send("PATCH", changed, replaced, content_type=JSON_PATCH)).status == 200
    back = _replace("/spec/containers/0/image", BAD)
    assert (await api.send("PATCH", changed, back, content_type=JSON_PATCH)).status == 403
    debugger = {"spec": {"ephemeralContainers": [{"name": "debug", "image": GOOD}]}}
    reply = await api.send("PATCH", f"{kept}/ephemeralcontainers", debugger, content_type=STRATEGIC)
    assert reply.status == 200, reply.message
    await api.ok("DELETE", leaving)
    other = _replace("/spec/containers/0/image", "registry.example/bad/leaving:1")
    assert (await api.send("PATCH", leaving, other, content_type=JSON_PATCH)).status == 200
    done = [{"op": "remove", "path": "/metadata/finalizers"}]
    assert (await api.send("PATCH", leaving, done, content_type=JSON_PATCH)).status == 200
    assert (await api.send("DELETE", gone)).status == 200
    await api.ok("DELETE", path)


async def test_neither_an_owner_nor_a_label_opens_a_door(site: Site, api: Api) -> None:
    await _is_known(site, api, "fails")
    manifest = site.pod("owned", BAD)
    manifest["metadata"] |= {
        "labels": {"security.banzaicloud.com/skip": "true", "moorgate.test/ignore": "true"},
        "ownerReferences": [OWNER],
        "annotations": {"security.banzaicloud.com/skip": "true"},
    }
    for rule in ("enforce", "whitelisted"):
        assert (await api.create_pod(site.namespaces[rule], manifest, dry_run=True)).status == 403


@pytest.mark.parametrize("kind", WORKLOADS)
async def test_a_workload_is_warned_and_its_images_asked_for(site: Site, api: Api, kind: str) -> None:
    await _is_known(site, api, "fails")
    unknown = f"registry.example/bulk/of-a-{kind.lower()}:1"
    await site.road.tell_anchore("preload", reference=unknown)
    group = WORKLOADS[kind]
    path = f"/apis/{group}/namespaces/{site.namespaces['enforce']}/{kind.lower()}s"
    reply = await api.send("POST", path, _workload(kind, BAD, unknown), dry_run=True)
    assert reply.status == 201, reply.message
    assert any(
        f"Pods of this {kind} would be refused" in each and WORDS["fails"] in each for each in reply.warnings
    )

    async def is_scanned() -> bool:
        return await site.road.calls("check", unknown) == 1

    await until(is_scanned, "the unknown image is scanned although there is no Pod")


def _answer(reply: Reply) -> Answer:
    if reply.status < 300:
        return Answer.WARNED if reply.warnings else Answer.ALLOWED
    return {
        403: Answer.REFUSED,
        422: Answer.IMPOSSIBLE,
        429: Answer.PUT_OFF,
        503: Answer.NO_VERDICT,
    }[reply.status]


def _says(reply: Reply, answer: Answer, outcome: str) -> None:
    """The reason stands where the client sees it."""
    if answer is Answer.WARNED:
        assert any("allowed, but" in each and WORDS[outcome] in each for each in reply.warnings)
    elif reply.status in KNOWN_BY.values() and reply.status != 201:
        assert WORDS[outcome] in reply.message
        assert IMAGES[outcome] in reply.message


async def _is_known(site: Site, api: Api, outcome: str) -> None:
    """Ask until the outcome is in the gateway's memory: states of error lapse."""
    manifest = site.pod("first", IMAGES[outcome])
    manifest["metadata"] |= {"ownerReferences": [OWNER], "labels": {}}

    async def is_known() -> bool:
        reply = await api.create_pod(site.namespaces["enforce"], manifest, dry_run=True)
        return reply.status == KNOWN_BY[outcome]

    await until(is_known, f"the image of {outcome} is known")


async def _create(site: Site, api: Api, cell: Cell) -> Reply:
    manifest = site.pod("new", GOOD)
    container = {"name": "new", "image": BAD}
    spec = manifest["spec"]
    spec |= {
        "container": {"containers": [*spec["containers"], container]},
        "init": {"initContainers": [container]},
        "sidecar": {"initContainers": [{**container, "restartPolicy": "Always"}]},
        "ephemeral": {"ephemeralContainers": [container]},
        "volume": {"volumes": [{"name": "new", "image": {"reference": BAD}}]},
    }[cell.kind]
    return await api.create_pod(site.namespaces[cell.mode], manifest, dry_run=True)


async def _update(site: Site, api: Api, cell: Cell) -> Reply:
    path = pods(site.namespaces[cell.mode], "everything")
    where = {
        "container": "/spec/containers/0/image",
        "init": "/spec/initContainers/0/image",
        "sidecar": "/spec/initContainers/1/image",
        "volume": "/spec/volumes/0/image/reference",
    }
    change = [
        {"op": "add", "path": "/spec/ephemeralContainers", "value": [{"name": "new", "image": BAD}]}
        if cell.kind == "ephemeral"
        else {"op": "replace", "path": where[cell.kind], "value": BAD}
    ]
    return await api.send("PATCH", path, change, content_type=JSON_PATCH, dry_run=True)


async def _ephemeral(site: Site, api: Api, cell: Cell) -> Reply:
    path = f"{pods(site.namespaces[cell.mode], 'everything')}/ephemeralcontainers"
    changes: dict[str, dict[str, Any]] = {
        "container": {"containers": [{"name": "main", "image": BAD}]},
        "init": {"initContainers": [{"name": "init", "image": BAD}]},
        "sidecar": {"initContainers": [{"name": "sidecar", "image": BAD}]},
        "ephemeral": {"ephemeralContainers": [{"name": "new", "image": BAD}]},
        "volume": {"volumes": [{"name": "volume", "image": {"reference": BAD}}]},
    }
    return await api.send("PATCH", path, {"spec": changes[cell.kind]}, content_type=STRATEGIC, dry_run=True)


_TRIES = {"create": _create, "update": _update, "ephemeralcontainers": _ephemeral}


async def _are_in(api: Api, namespace: str, manifests: list[dict[str, Any]]) -> bool:
    replies = [await api.create_pod(namespace, each) for each in manifests]
    return all(reply.status in (201, 409) for reply in replies)


async def _label(api: Api, namespace: str, rule: str) -> None:
    await api.ok("PATCH", namespace, {"metadata": {"labels": {"test/rule": rule}}}, content_type=MERGE)


def _replace(path: str, value: str) -> list[dict[str, str]]:
    return [{"op": "replace", "path": path, "value": value}]


def _workload(kind: str, *images: str) -> dict[str, Any]:
    labels = {"app": "later"}
    containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
    template: dict[str, Any] = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    spec: dict[str, Any] = {"template": template}
    if kind in ("Job", "CronJob"):
        template["spec"]["restartPolicy"] = "Never"
    else:
        spec["selector"] = {"matchLabels": labels}
    if kind == "StatefulSet":
        spec["serviceName"] = "later"
    if kind == "CronJob":
        spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}}
    return {"apiVersion": WORKLOADS[kind], "kind": kind, "metadata": {"name": "later"}, "spec": spec}
