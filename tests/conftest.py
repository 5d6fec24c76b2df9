"""Fixtures for all tests: each module of tests/support brings those of its neighbour."""

pytest_plugins = [
    "tests.support.kube",
    "tests.support.nats",
    "tests.support.road",
]
