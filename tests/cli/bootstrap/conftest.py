"""A site for each test, once for each API of Anchore."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.dev.kubectl import Kubectl
from deploy.dev.nats import NatsServer
from tests.cli.bootstrap.site import Site
from tests.support.anchore import anchore


@pytest.fixture
def environment(
    kubectl: Kubectl, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of the file; cluster, NATS and the file's name are in the environment."""
    monkeypatch.setenv("KUBECONFIG", str(kubectl.plane.kubeconfig()))
    monkeypatch.setenv("MOORGATE_NATS_URL", nats_server.url)
    monkeypatch.setenv("MOORGATE_BOOTSTRAP_FILE", str(tmp_path / "bootstrap.yaml"))
    return tmp_path


@pytest.fixture(params=["v1", "v2"])
async def site(
    request: pytest.FixtureRequest,
    kubectl: Kubectl,
    environment: Path,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Site]:
    async with anchore(apis=(request.param,)) as simulator:
        site = Site(simulator, kubectl, environment, capsys)
        await site.pull_secret()
        site.settings()
        yield site
