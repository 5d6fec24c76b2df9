"""`moorgate manifest check` on the running road: what it says of a manifest is what becomes of its Pods."""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dev.kubectl import Kubectl
from deploy.dev.ports import free_port
from tests.support.api import POLICIES, image_policy
from tests.support.command_line import CommandLine
from tests.support.road import WatchedRoad, pod

pytestmark = pytest.mark.cluster

GOOD, BAD, MISSING = "nginx:1.25", "registry.example/bad/manifest:1", "registry.example/missing/manifest:1"


@pytest.fixture
async def known(moorgate: CommandLine) -> None:
    """Scanned before."""
    assert (await moorgate("check", GOOD, BAD)).code == 1


def deployment(name: str, image: str, **labels: str) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name, **labels}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def write(folder: Path, *manifests: dict[str, Any]) -> str:
    path = folder / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(manifests))
    return str(path)


@pytest.mark.usefixtures("known")
async def test_what_it_says_is_what_becomes_of_them(
    kube: Kubectl, moorgate: CommandLine, tmp_path: Path
) -> None:
    manifests = {
        name: pod(name, image) for name, image in (("good", GOOD), ("bad", BAD), ("typo", "no image!"))
    }
    path = write(tmp_path, *manifests.values(), deployment("web", BAD))
    answer = await moorgate("manifest", "check", path, "-n", kube.namespace, "-o", "json")
    assert answer.code == 1
    told = {each["name"]: each for each in answer.json()}
    assert {name: each["fate"] for name, each in told.items()} == {
        "good": "admitted",
        "bad": "refused",
        "typo": "refused",
        "web": "refused",
    }
    for name, manifest in manifests.items():
        created = await kube.run("create", "--dry-run=server", "-f", "-", stdin=manifest)
        assert (created.code == 0) == (told[name]["fate"] == "admitted"), created.stderr
        assert told[name]["message"].partition(": ")[2] in created.stderr
    text = (await moorgate("manifest", "check", path, "-n", kube.namespace)).stdout
    assert (
        f"REFUSED    {kube.namespace} Deployment/web  ({path}, document 4)\n    moorgate: Deployment web"
        in text
    )
    assert text.endswith("1 admitted, 0 warned, 3 refused, 0 not known\n")
    assert (
        await moorgate("manifest", "check", write(tmp_path, manifests["good"]), "-n", kube.namespace)
    ).code == 0


@pytest.mark.usefixtures("known")
async def test_whitelist_and_policies_of_the_cluster_count(
    road: WatchedRoad, kube: Kubectl, moorgate: CommandLine, tmp_path: Path
) -> None:
    release, tier = f"m-{kube.namespace}", f"t-{secrets.token_hex(4)}"
    path = write(tmp_path, deployment("listed", BAD, release=release))
    here = ("-n", kube.namespace)
    assert (await moorgate("manifest", "check", path, *here)).code == 1
    await moorgate.ok("whitelist", "add", release, "--reason", "test", *here)
    assert f"WhiteListItem {release}" in (await moorgate.ok("manifest", "check", path, *here)).stdout
    await moorgate.ok("whitelist", "remove", release)
    new = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "yet-to-come", "labels": {"tier": tier}},
    }
    inside = deployment("warned", BAD)
    inside["metadata"]["namespace"] = "yet-to-come"
    path = write(tmp_path, new, inside)
    assert (await moorgate("manifest", "check", path)).code == 1
    policy = image_policy(f"warn-{tier}", mode="warn", namespaceSelector={"matchLabels": {"tier": tier}})
    async with road.api() as api:
        await api.ok("POST", POLICIES, policy)
        try:
            warned = (await moorgate.ok("manifest", "check", path)).stdout
        finally:
            await api.ok("DELETE", f"{POLICIES}/warn-{tier}")
    assert "WARNED     yet-to-come Deployment/warned" in warned
    assert f"by ImagePolicy warn-{tier} (mode warn)" in warned


async def test_an_unknown_image_is_scanned_while_one_waits(
    road: WatchedRoad, moorgate: CommandLine, tmp_path: Path
) -> None:
    image = f"registry.example/bulk/manifest-{secrets.token_hex(4)}:1"
    path = write(tmp_path, *(pod(f"p{number}", image) for number in range(5)))
    now = await moorgate("manifest", "check", path, "-n", "default", "--wait", "0")
    assert now.code == 3
    assert "5 not known" in now.stdout
    assert (await moorgate("manifest", "check", path, "-n", "default", "--wait", "60s")).code == 0
    assert await road.calls("check", image) == 1


@pytest.mark.usefixtures("known")
async def test_without_a_cluster_by_a_file_of_policies(moorgate: CommandLine, tmp_path: Path) -> None:
    policies = tmp_path / "policies.yaml"
    spec = {"mode": "warn", "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "lenient"}}}
    policies.write_text(json.dumps({**image_policy("lenient"), "spec": spec}))
    alone = moorgate.given(KUBECONFIG=str(tmp_path / "none"))
    path = write(tmp_path, pod("bad", BAD))
    for namespace, code in (("lenient", 0), ("strict", 1)):
        answer = await alone("manifest", "check", path, "-n", namespace, "--policies", str(policies))
        assert answer.code == code, answer
    assert (await alone("manifest", "check", path, "--policies", str(policies))).code == 1


async def test_each_trouble_is_one_line(
    road: WatchedRoad, kube: Kubectl, moorgate: CommandLine, tmp_path: Path
) -> None:
    path = write(tmp_path, pod("good", GOOD))
    nobody = f"nats://127.0.0.1:{free_port()}"
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    await moorgate.refuses(
        (2, "name a file", ("manifest", "check")),
        (2, "cannot read", ("manifest", "check", str(tmp_path / "none"))),
        (2, "--wait is 'soon'", ("manifest", "check", path, "--wait", "soon")),
        (2, "--namespace is", ("manifest", "check", path, "-n", "No Name")),
        (2, "cannot read", ("manifest", "check", path, "--policies", str(tmp_path / "none"))),
        (3, nobody, ("manifest", "check", path, "-n", "default", "--nats-url", nobody)),
    )
    nothing = await moorgate.ok("manifest", "check", str(empty))
    assert "nothing in it brings an image" in nothing.stdout
    developer = moorgate.given(KUBECONFIG=str(road.plane.kubeconfig("developer")))
    refused = await developer("manifest", "check", path, "-n", kube.namespace)
    assert (refused.code, "you have no right" in refused.trouble) == (3, True)
