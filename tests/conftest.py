"""Fixtures for all tests: each module of tests/support brings those of its neighbour."""

import pytest

pytest_plugins = [
    "tests.support.kube",
    "tests.support.nats",
    "tests.support.road",
    "tests.support.scene",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: with several workers the others fill the time beside them."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
