"""How the tests reach NATS: a real nats-server with JetStream per test module.

It has free ports and a store folder of its own. Streams outlive a test, not its module: tests of one
module choose unique names. A test may kill, pause or restart the server through `nats_server.process`.
"""

import asyncio
from collections.abc import Iterator

import pytest

from deploy.dev.nats import NatsServer


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The module's server, ready."""
    # A loop of its own: fixtures of a module outlive the loops of the tests.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        server = NatsServer(folder=tmp_path_factory.mktemp("nats"))
        runner.run(server.start())
        try:
            yield server
        finally:
            runner.run(server.stop())
