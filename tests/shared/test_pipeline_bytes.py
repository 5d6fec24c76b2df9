"""What the pipeline writes by itself is what nats-py writes: a newer one that does otherwise turns this red."""

from typing import Any

import pytest
from nats.aio.client import Client

from shared import pipeline

HEADERS = {
    "ce-id": "a-1",
    "ce-type": "moorgate.v1.decision",
    "traceparent": "00-1-2-01",
    "Nats-Msg-Id": "a-1",
}


@pytest.mark.parametrize("payload", [b"", b'{"a": "\xc3\xa9"}'])
async def test_a_message_is_written_as_nats_py_writes_it(
    payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, written = Client(), []

    async def send(command: bytes, **_: Any) -> None:
        written.append(command)

    monkeypatch.setattr(client, "_send_command", send)
    await client._send_publish("a.b", "inbox.7", payload, len(payload), dict(HEADERS))
    text = "\r\n".join(map(": ".join, HEADERS.items()))
    await pipeline._write(client, "a.b", "inbox.7", text, payload)
    theirs, ours = written
    assert ours == theirs
