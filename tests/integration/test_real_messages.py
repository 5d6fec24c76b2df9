"""What the services really say to one another fits the published schemas and docs/asyncapi.yaml: body, headers and subject.

Golden messages are what tests write; these are what a running road has written by itself, and what other tests made it write.
"""

import json
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import nats.js.errors
import pytest
import yaml
from nats.js.api import RawStreamMsg
from prometheus_client import CollectorRegistry

from deploy.dev.kubectl import Kubectl
from shared import streams, subjects
from shared.broker import Broker, BrokerSettings, open_broker
from shared.contracts import VERDICT_ANSWER, VerdictRequest, decode, encode
from shared.metrics import CommonMetrics
from shared.settings import Environment
from tests.support.road import WatchedRoad, audit, pod, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

DOCS = Path(__file__).parents[2] / "docs"
WITHIN = 60.0
BUCKETS = (subjects.VERDICTS, subjects.SCAN_STATES, subjects.TENANTS, subjects.RUNNING)
STREAMS = (subjects.SCANS, subjects.EVENTS, subjects.DEAD, *map(streams.bucket_stream, BUCKETS))

WRITTEN = {
    "admission-decided",
    "scan-request",
    "verdict",
    "scan-pending",
    "scan-error",
    "tenant",
    "dead-letter",
}
"""What must be among them: else this looks at nothing."""


@pytest.fixture
async def operator(road: WatchedRoad) -> AsyncIterator[Broker]:
    settings = BrokerSettings.load(Environment(road.nats.settings("operator")))
    async with open_broker(settings, "tests", CommonMetrics(CollectorRegistry())) as broker:
        yield broker


async def test_what_was_written_fits_what_is_published(
    road: WatchedRoad, kube: Kubectl, operator: Broker
) -> None:
    await make_them_talk(road, kube, operator)
    document = yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))

    async def all_are_written() -> bool:
        return {short(each) async for _, each in written(operator)} >= WRITTEN

    await until(all_are_written, f"each of {sorted(WRITTEN)}", WITHIN)
    async for stream, message in written(operator):
        check(document, stream, message)


async def test_a_question_and_its_answer_fit(road: WatchedRoad, operator: Broker) -> None:
    del road
    request = encode(VerdictRequest(image="nginx:1.25", timeout_seconds=WITHIN))
    reply = await operator.client.request(subjects.question_subject("default"), request, timeout=WITHIN)
    fits_schema(json.loads(request))
    fits_schema(json.loads(reply.data))
    assert decode(reply.data, VERDICT_ANSWER).verdict is not None


async def make_them_talk(road: WatchedRoad, kube: Kubectl, operator: Broker) -> None:
    """A decision either way, a scan that goes on, one that failed, and one that nobody can read."""
    await kube.create(pod("good", "nginx:1.25"))
    await kube.run("create", "-f", "-", stdin=pod("bad", "registry.example/bad/said:1"))
    slow = f"registry.example/bulk/said-{secrets.token_hex(4)}:1"
    await road.tell_anchore("push", reference=slow, content={"analysis_seconds": 600})
    asked = ("--request-timeout=1s", "create", "-f", "-")
    await kube.run(*asked, stdin=pod("slow", slow))
    await kube.run(*asked, stdin=pod("gone", f"nowhere.example/gone-{secrets.token_hex(4)}:1"))
    poison = f"moorgate.v1.scan.admission.default.{secrets.token_hex(32)}"
    await operator.client.publish(poison, b"\xff")
    await audit(kube, "pod-bad")


async def written(operator: Broker) -> AsyncIterator[tuple[str, RawStreamMsg]]:
    """Every message that is there."""
    for stream in STREAMS:
        state = (await operator.jetstream.stream_info(stream)).state
        for sequence in range(max(1, state.first_seq), state.last_seq + 1):
            try:
                found = await operator.jetstream.get_msg(stream, sequence)
            except nats.js.errors.NotFoundError:
                continue
            if found.data and found.data != b"\xff":
                yield stream, found


def check(document: Any, stream: str, message: RawStreamMsg) -> None:
    body = json.loads(message.data or b"")
    fits_schema(body)
    schemas = {"components": {"schemas": document["components"]["schemas"]}}
    [described] = [
        each for each in document["components"]["messages"].values() if each["name"] == body["type"]
    ]
    jsonschema.Draft7Validator({**schemas, **described["payload"]}).validate(body)
    if not stream.startswith("KV_"):
        headers = dict(message.headers or {})
        jsonschema.Draft7Validator({**schemas, **described["headers"]}).validate(headers)
        assert headers["ce-type"] == body["type"]
    name = next(name for name, each in document["components"]["messages"].items() if each is described)
    addresses = [each["address"] for each in document["channels"].values() if name in each["messages"]]
    assert any(re.fullmatch(pattern(each), str(message.subject)) for each in addresses), message.subject


def fits_schema(body: Any) -> None:
    schema = json.loads((DOCS / "schemas" / f"{body['type']}.json").read_text(encoding="utf-8"))
    jsonschema.validators.validator_for(schema)(schema).validate(body)


def pattern(address: str) -> str:
    """A parameter is one or more parts of a subject: a bucket's key is several."""
    return ".+".join(re.escape(part) for part in re.split(r"\{\w+\}", address))


def short(message: RawStreamMsg) -> str:
    return str(json.loads(message.data or b"")["type"]).removeprefix("moorgate.v1.")
