"""Releases that are let through: by label, by pattern, by name; narrowed, expired, and always on record."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.dev.kubectl import Kubectl
from tests.support.road import audit, pod, until

BAD = "registry.example/bad/whitelisted:1"


def item(kube: Kubectl, name: str, **spec: Any) -> dict[str, Any]:
    """An item for the test's namespace only: items are cluster-scoped, and other tests go on."""
    return {
        "apiVersion": "security.banzaicloud.com/v1alpha1",
        "kind": "WhiteListItem",
        "metadata": {"name": name, "labels": {"test": kube.namespace}},
        "spec": {"creator": "a test", "reason": "a test", "namespaces": [kube.namespace], **spec},
    }


@pytest.mark.parametrize(
    ("spec", "name", "labels"),
    [
        ({}, "by-label", {"release": "RELEASE"}),
        ({}, "by-instance", {"app.kubernetes.io/instance": "RELEASE"}),
        ({"regexp": "NAMESPACE-pattern-[0-9]+"}, "by-pattern", {"release": "NAMESPACE-pattern-12"}),
        ({}, "RELEASE-5cd466fccb-x7x2p", {}),
    ],
    ids=["label", "instance", "regexp", "fake-release"],
)
async def test_a_whitelisted_release_is_admitted_and_recorded(
    kube: Kubectl, spec: dict[str, str], name: str, labels: dict[str, str]
) -> None:
    release = f"{kube.namespace}-legacy"
    names = {"RELEASE": release, "NAMESPACE": kube.namespace}
    await kube.create(item(kube, release, **{key: _fill(value, names) for key, value in spec.items()}))
    pod_name = _fill(name, names)
    manifest = pod(pod_name, BAD, labels={key: _fill(value, names) for key, value in labels.items()})

    async def is_admitted() -> bool:
        return (await kube.run("create", "-f", "-", stdin=manifest)).code == 0

    await until(is_admitted, "the Pod is admitted", seconds=5)
    found = await audit(kube, f"pod-{pod_name}")

    async def is_recorded() -> bool:
        found = await audit(kube, f"pod-{pod_name}")
        return bool(found["spec"]["result"] == [f"Whitelisted release: {BAD}"])

    await until(is_recorded, "the Audit says that the release is whitelisted")
    assert found["metadata"]["labels"]["fakerelease"] == ("false" if labels else "true")
    await kube.ok("delete", "whitelistitem", release)


async def test_an_item_covers_no_other_namespace_image_or_time(kube: Kubectl) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    release = f"{kube.namespace}-narrow"
    specs: list[dict[str, Any]] = [
        {"namespaces": ["elsewhere"]},
        {"images": ["registry.example/good/*"]},
        {"expiresAt": past},
        {"regexp": "x"},
    ]
    for number, spec in enumerate(specs):
        await kube.create(item(kube, f"{release}-{number}", **spec))
    await items_are_known(kube)
    for number, spec in enumerate(specs):
        name = f"{release}-{number}"
        answer = await kube.run("create", "-f", "-", stdin=pod(f"p{number}", BAD, labels={"release": name}))
        assert answer.code == 1, spec
        assert "fails policy bundle" in answer.stderr
    await kube.ok("delete", "whitelistitems", "-l", f"test={kube.namespace}")


async def test_a_release_that_only_begins_like_an_item_is_not_covered(kube: Kubectl) -> None:
    release = f"{kube.namespace}-web"
    await kube.create(item(kube, release))
    await items_are_known(kube)
    for name in (f"{release}site-1", f"x{release}"):
        answer = await kube.run("create", "-f", "-", stdin=pod(name, BAD))
        assert answer.code == 1, name
    labelled = pod("labelled", BAD, labels={"release": f"{release}-1"})
    assert (await kube.run("create", "-f", "-", stdin=labelled)).code == 1
    await kube.ok("delete", "whitelistitem", release)


async def items_are_known(kube: Kubectl) -> None:
    """Wait until the gateway has seen every item made so far: one made last is in force."""
    last = f"{kube.namespace}-last"
    await kube.create(item(kube, last))

    async def is_known() -> bool:
        manifest = pod("last", BAD, labels={"release": last})
        return (await kube.run("create", "-f", "-", stdin=manifest)).code == 0

    await until(is_known, "the gateway has seen the last item", seconds=5)
    await kube.ok("delete", "whitelistitem", last)


def _fill(text: str, names: dict[str, str]) -> str:
    for placeholder, value in names.items():
        text = text.replace(placeholder, value)
    return text
