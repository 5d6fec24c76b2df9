"""Fixtures for all tests: each module of tests/support brings those of its neighbour."""

import os
from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = [
    "tests.support.kube",
    "tests.support.nats",
    "tests.support.nats_users",
    "tests.support.road",
    "tests.support.scene",
]

for name in (
    "NO_PROXY",
    "no_proxy",
):  # a machine behind a proxy has it in its environment, and the services heed it
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost", "::1"]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: with several workers the others fill the time beside them."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """What a command sets up for its process must not silence the tests after it."""
    yield
    structlog.reset_defaults()
