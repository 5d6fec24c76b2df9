"""What all tests of the chart need: Helm, built beforehand, for a build takes longer than a test may."""

import os

import pytest

from deploy.dev import helm


@pytest.fixture(scope="session", autouse=True)
def require_helm() -> None:
    """Skip where Helm isn't built; in CI that is a failure."""
    if helm.is_there():
        return
    message = "Helm is not built: run `python -m deploy.dev.helm` once"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
