"""The real API server takes every object that the chart renders: `--dry-run=server`, strictly, by every set of values."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.dev.helm import Release
from tests.support import chart
from tests.support.chart import Json
from tests.support.kube import Answer, Kubectl

NOT_SERVED = ("cert-manager.io/", "monitoring.coreos.com/")
"""Groups whose definitions their operators bring."""

NAME = "moorgate-dry-run"
"""Of the release: no other test has objects of this name."""

IS_THERE = ("registries", "123")
"""Namespaces that the values name."""

NUMBERS = sorted((Path(__file__).parent / "values" / "numbers").glob("*.yaml"))
"""Sets in which whatever is a name looks like a number."""


@pytest.fixture
async def registries(kubectl: Kubectl) -> AsyncIterator[None]:
    await kubectl.ok("create", "namespace", *IS_THERE[:1])
    await kubectl.ok("create", "namespace", *IS_THERE[1:])
    yield
    await kubectl.ok("delete", "namespace", *IS_THERE, "--wait=false")


@pytest.mark.usefixtures("registries")
async def test_the_api_server_takes_all_of_it(kubectl: Kubectl) -> None:
    """One set after another: the namespace is made once, and nothing is really written.

    It warns of what Pod Security's strictest level would refuse.
    """
    await kubectl.ok("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/warn=restricted")
    for path in (*chart.VALUES, *NUMBERS):
        release = Release(name=NAME, namespace=kubectl.namespace, files=(path,))
        served = _served(release.template())
        answer = await _dry_run(kubectl, served)
        assert answer.code == 0, (path.stem, answer.stderr)
        assert len(answer.stdout.splitlines()) == len(served), (path.stem, answer)
        assert "violate PodSecurity" not in answer.stderr, path.stem


async def test_a_field_that_is_unknown_would_be_noticed(kubectl: Kubectl) -> None:
    values = {"anchore": {"url": "http://anchore:8228"}}
    objects = Release(name=NAME, namespace=kubectl.namespace, values=values).template()
    (budget,) = [
        each
        for each in objects
        if each["kind"] == "PodDisruptionBudget" and "nats" in each["metadata"]["name"]
    ]
    budget["spec"]["maxUnavailble"] = 1
    answer = await _dry_run(kubectl, [budget])
    assert answer.code != 0
    assert "maxUnavailble" in answer.stderr


async def test_a_pod_that_may_too_much_would_be_noticed(kubectl: Kubectl) -> None:
    await kubectl.ok("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/warn=restricted")
    values = {"anchore": {"url": "http://anchore:8228"}}
    objects = Release(name=NAME, namespace=kubectl.namespace, values=values).template()
    (gateway,) = [
        each for each in objects if each["kind"] == "Deployment" and "gateway" in each["metadata"]["name"]
    ]
    del gateway["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]
    assert "violate PodSecurity" in (await _dry_run(kubectl, [gateway])).stderr


def _served(objects: list[Json]) -> list[Json]:
    return [each for each in objects if not each["apiVersion"].startswith(NOT_SERVED)]


async def _dry_run(kubectl: Kubectl, objects: list[Json]) -> Answer:
    bundle = {"apiVersion": "v1", "kind": "List", "items": objects}
    return await replace(kubectl, namespace="").run(
        "apply", "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict",
        "--field-manager=helm", "-f", "-", stdin=json.dumps(bundle),
    )  # fmt: skip
