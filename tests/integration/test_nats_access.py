"""NATS with its locks on: what each user does works, who is not known is sent away, and no detour leads in."""

import asyncio
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.js.api import AckPolicy, ConsumerConfig
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from deploy.dev.nats_access import NatsAccess
from services.cli.dead_letters import DeadLetters
from shared import contracts, subjects
from shared.broker import BrokerSettings, open_broker
from shared.contracts import DeadLetter, ScanRequest
from shared.errors import Unavailable
from shared.metrics import CommonMetrics
from shared.settings import Environment
from shared.subjects import Lane
from tests.support.builders import START
from tests.support.nats_users import GATEWAY, INTEGRATOR, OPERATOR, SCANNER, broker_as, client_as
from tests.support.road import until

DOMAIN = "$JS.MOORGATE.API"
"""JetStream, from the account of the integrators."""

KEY = subjects.verdict_key("default", "b", "docker.io/library/nginx:1")


async def test_what_a_permission_refuses_is_counted_and_fails(locked: NatsServer) -> None:
    metrics = CommonMetrics(CollectorRegistry())
    async with broker_as(locked, GATEWAY, metrics) as broker:
        broker.jetstream._timeout = 0.5
        with pytest.raises(Unavailable):
            await broker.publish_raw(f"$KV.moorgate_verdicts.{KEY}", b"forged", {})
    assert metrics.nats_permission_errors._value.get() == 1


async def test_an_integrator_reads_events_by_its_durable_and_acknowledges_them(locked: NatsServer) -> None:
    async with broker_as(locked, OPERATOR) as operator, broker_as(locked, INTEGRATOR) as integrator:
        durable = ConsumerConfig(durable_name=INTEGRATOR, ack_policy=AckPolicy.EXPLICIT, ack_wait=60)
        await operator.jetstream.add_consumer(subjects.EVENTS, durable)
        subject = subjects.decision_subject(f"shop-{secrets.token_hex(4)}")
        await operator.publish_raw(subject, b"{}", {})
        jetstream = integrator.client.jetstream(domain="MOORGATE")
        pull = await jetstream.pull_subscribe_bind(consumer=INTEGRATOR, stream=subjects.EVENTS)
        while True:  # others of this module have published as well
            [message] = await pull.fetch(1, timeout=10)
            await message.ack_sync(timeout=10)
            if message.subject == subject:
                break
        seen = await jetstream.consumer_info(subjects.EVENTS, INTEGRATOR)
        assert (seen.num_pending, seen.num_ack_pending) == (0, 0)


async def test_a_gateway_answers_who_asks_for_a_verdict(locked: NatsServer) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(b"fail")

    async with (
        client_as(locked, GATEWAY) as (gateway, complaints),
        client_as(locked, INTEGRATOR) as (integrator, _),
        client_as(locked, OPERATOR) as (operator, _),
    ):
        await gateway.subscribe("moorgate.v1.verdict.*", queue="verdicts", cb=answer)
        await gateway.subscribe("$SRV.PING", cb=answer)
        await gateway.flush(timeout=10)
        for asker, subject in (
            (integrator, "moorgate.v1.verdict.default"),
            (operator, "moorgate.v1.verdict.other"),
            (operator, "$SRV.PING"),
        ):
            assert (await answered(asker, subject)).data == b"fail"
        assert not complaints


async def answered(asker: Client, subject: str) -> Msg:
    """The answer. Between accounts the server may say "no responders" for a moment after the responder came."""

    async def ask() -> Msg | None:
        try:
            return await asker.request(subject, b"{}", timeout=10)
        except NoRespondersError:
            return None

    answer: Msg = await until(ask, f"somebody answers {subject}")
    return answer


async def test_an_integrator_cannot_write_by_having_the_answer_sent_elsewhere(locked: NatsServer) -> None:
    """NATS sends an answer wherever the request says: only another account keeps it out of the buckets."""
    forged = f"$KV.moorgate_verdicts.{secrets.token_hex(4)}.x.y"

    async def answer(message: Msg) -> None:
        await message.respond(b"forged")

    async with (
        broker_as(locked, OPERATOR) as operator,
        client_as(locked, GATEWAY) as (gateway, _),
        client_as(locked, INTEGRATOR) as (integrator, complaints),
    ):
        durable = ConsumerConfig(durable_name=INTEGRATOR, ack_policy=AckPolicy.EXPLICIT, ack_wait=60)
        await operator.jetstream.add_consumer(subjects.EVENTS, durable)
        await operator.publish_raw(subjects.decision_subject("shop"), b"{}", {})
        await gateway.subscribe("moorgate.v1.verdict.*", cb=answer)
        await gateway.flush(timeout=10)
        for subject in (
            f"{DOMAIN}.CONSUMER.MSG.NEXT.MOORGATE_EVENTS.integrator",
            f"{DOMAIN}.CONSUMER.INFO.MOORGATE_EVENTS.integrator",
            "moorgate.v1.verdict.default",
        ):
            await integrator.publish(subject, b"", reply=forged)
            reply = integrator.new_inbox()
            arrived = await integrator.subscribe(reply)
            await integrator.publish("moorgate.v1.verdict.default", b"", reply=reply)
            await arrived.next_msg(timeout=10)  # what was sent before has been answered by now
        assert not complaints
        found = await operator.jetstream.stream_info("KV_moorgate_verdicts", subjects_filter=forged)
        assert not found.state.subjects


async def test_the_operator_tries_dead_letters_again_and_takes_them_out(locked: NatsServer) -> None:
    request = ScanRequest(
        tenant=f"t-{secrets.token_hex(4)}", image="docker.io/library/nginx:1", bundle_id="b", asked_at=START
    )
    subject = subjects.scan_subject(Lane.ADMISSION, request.tenant, request.key)
    letter = DeadLetter(
        what="scan",
        reason="r",
        subject=subject,
        stream=subjects.SCANS,
        sequence=1,
        deliveries=1,
        died_at=datetime.now(UTC),
        payload=contracts.encode(request),
    )
    async with broker_as(locked, SCANNER) as scanner:
        await scanner.publish(subjects.dead_subject("scan"), letter, secrets.token_hex(8))
    metrics = CommonMetrics(CollectorRegistry())
    async with broker_as(locked, OPERATOR, metrics) as operator:
        letters = DeadLetters(operator)
        [stored] = [each async for each in letters.all("scan") if each.letter == letter]
        assert await letters.retry(stored) == "asked again"
        assert await letters.get(stored.number) is None
    assert metrics.nats_permission_errors._value.get() == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"user": None, "password": None}, "Authorization Violation"),
        ({"password": "wrong"}, "Authorization Violation"),
        ({"user": "admin"}, "Authorization Violation"),
    ],
    ids=["nobody", "a wrong password", "an unknown user"],
)
async def test_who_is_not_known_is_sent_away(
    locked: NatsServer, change: dict[str, Any], complaint: str
) -> None:
    complaints: list[str] = []

    async def note(error: Exception) -> None:
        complaints.append(str(error))

    options = {**locked.options(GATEWAY), **change}
    with pytest.raises(nats.errors.Error):
        await _try_to_connect(**options, error_cb=note)
    assert any(complaint.lower() in each.lower() for each in complaints), complaints


async def test_a_server_of_another_authority_is_not_trusted(locked: NatsServer, tmp_path: Path) -> None:
    stranger = NatsAccess(folder=tmp_path)
    stranger.write()
    settings = {**locked.settings(GATEWAY), "MOORGATE_NATS_CA_FILE": str(stranger.ca)}
    with pytest.raises(
        (OSError, nats.errors.Error)
    ):  # of the certificate, or of the connection that ended by it
        await _try_to_connect(**{**locked.options(GATEWAY), "tls": stranger.options(GATEWAY)["tls"]})
    metrics = CommonMetrics(CollectorRegistry())
    broker_settings = BrokerSettings.load(Environment(settings))
    async with open_broker(broker_settings, "tests", metrics) as broker:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(broker.connected(), 1)


async def test_plain_text_is_sent_away(locked: NatsServer) -> None:
    """The server says that it wants TLS, and hangs up on who goes on without."""
    reader, writer = await asyncio.open_connection("127.0.0.1", locked.port)
    try:
        assert b'"tls_required":true' in await asyncio.wait_for(reader.readline(), 10)
        password = locked.options(GATEWAY)["password"]
        writer.write(f'CONNECT {{"user":"gateway","pass":"{password}","verbose":false}}\r\nPING\r\n'.encode())
        await writer.drain()
        try:
            answer = await asyncio.wait_for(reader.read(), 20)
        except ConnectionResetError:
            answer = b""
    finally:
        writer.close()
    assert b"PONG" not in answer


async def _try_to_connect(**options: Any) -> None:
    """Once. nats-py leaves the socket of a refused connection to the garbage collector, which may come in another test."""
    client = Client()
    try:
        await client.connect(**options, allow_reconnect=False)
    finally:
        writer = getattr(client._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
            await asyncio.sleep(0)
