"""README.md's commands, cut out of it and run as they stand; each says where it is run, or why it cannot be.

`make demo` and the installation are run here, the other blocks by test_tutorial.py on the stack that `make dev` starts.
"""

import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dev import browser
from deploy.dev.helm import CHART, helm_command
from deploy.dev.installed.cluster import InstallationCluster
from deploy.dev.programs import installed
from tests.chart.installed import open_installation
from tests.docs import test_tutorial
from tests.support.documents import Block, Reader, blocks
from tests.support.kube import require_binaries

ROOT = Path(__file__).parents[2]

DEMO = "make demo"
BY_THE_TUTORIAL = frozenset({"make dev", "kubectl run bad --image=registry.example/bad/shop:1.0"})
INSTALLING = (
    "kubectl create namespace moorgate",
    "helm install moorgate deploy/helm/moorgate --namespace moorgate -f values.yaml --wait --timeout 15m",
    "kubectl create namespace moorgate-try",
    "kubectl -n moorgate-try get audits",
)
"""The first lines of the steps that are run, in their order."""
NOT_RUN = {
    "make images": "there is no registry to push to; tests/deploy/test_image.py builds the image where there is docker"
}


def readme() -> dict[str, Block]:
    return {block.name: block for block in blocks(ROOT / "README.md")}


def test_each_block_is_run_or_says_why_not() -> None:
    assert set(readme()) == {DEMO, *BY_THE_TUTORIAL, *INSTALLING, *NOT_RUN}
    assert test_tutorial.STARTED in BY_THE_TUTORIAL
    assert test_tutorial.REFUSED in BY_THE_TUTORIAL


def test_what_is_tagged_and_pushed_is_what_is_built_and_installed() -> None:
    """The block that is not run: its names are those of the chart and the values."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    repository = the_values()["image"]["repository"]
    _, tag, push = readme()["make images"].text.splitlines()
    assert tag == f"docker tag moorgate:{version} {repository}:{version}"
    assert push == f"docker push {repository}:{version}"


@pytest.mark.cluster
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_the_demo_comes_out() -> None:
    require_binaries()
    picture = ROOT / "demo-page.png"
    picture.unlink(missing_ok=True)
    said = await Reader(ROOT).follow(readme()[DEMO], seconds=600)
    assert "Every step came out so." in said
    assert re.search(r"https://localhost:\d+ shows all this", said), "the page's address"
    assert picture.exists() is any(shutil.which(name) for name in browser.NAMES), (
        "and a picture where there is a browser"
    )


def the_values() -> dict[str, Any]:
    [text] = [part.split("   ```")[0] for part in (ROOT / "README.md").read_text().split("```yaml\n")[1:]]
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@pytest.mark.cluster
@pytest.mark.long
@pytest.mark.timeout(600)
async def test_the_five_steps_install_it(tmp_path: Path) -> None:
    """Typed by somebody who sits beside the chart; where Anchore is, is the one word that is another's."""
    async with open_installation(tmp_path / "cluster", {}) as installation:
        reader = the_reader(tmp_path, installation.cluster)
        values = the_values() | {"anchore": {"url": installation.cluster.anchore_url}}
        (reader.folder / "values.yaml").write_text(yaml.safe_dump(values))
        (reader.folder / "anchore-admin-password").write_text("foobar")
        try:
            for name in INSTALLING:
                await reader.follow(readme()[name], seconds=200)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await installation.state()}") from error


def the_reader(folder: Path, cluster: InstallationCluster) -> Reader:
    """With the chart in front of him, and Helm and kubectl at hand."""
    seat, bin_folder = folder / "seat", folder / "bin"
    (seat / "deploy").mkdir(parents=True)
    (seat / "deploy" / "helm").symlink_to(ROOT / "deploy" / "helm")
    bin_folder.mkdir()
    helm = bin_folder / "helm"
    helm.write_text(f'#!/bin/sh\nexec "{helm_command()}" "$@"\n')
    helm.chmod(helm.stat().st_mode | stat.S_IXUSR)
    (bin_folder / "kubectl").symlink_to(installed("kubectl"))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
    own = {f"HELM_{kind}_HOME": str(folder / "helm" / kind.lower()) for kind in ("CONFIG", "CACHE", "DATA")}
    path = f"{bin_folder}:{inherited['PATH']}"
    return Reader(
        seat, {**inherited, **own, "PATH": path, "KUBECONFIG": str(cluster.plane.kubeconfig("admin"))}
    )
