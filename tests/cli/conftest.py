"""The operator at the terminal, on the session's road."""

import pytest

from tests.support.command_line import CommandLine
from tests.support.road import WatchedRoad


@pytest.fixture
def moorgate(road: WatchedRoad) -> CommandLine:
    """As the administrator of the cluster and NATS' operator."""
    return CommandLine(
        {
            "KUBECONFIG": str(road.plane.kubeconfig()),
            "MOORGATE_NAMESPACE": road.name,
            **road.nats.settings("operator"),
        }
    )
