"""Asking for verdicts on the whole road, as the tools of others do; and what is published, held to its schemas."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import nats
import pytest
from nats.aio.client import Client

from deploy.dev.asyncapi import HEADERS
from deploy.dev.kubectl import Kubectl
from deploy.dev.message_schemas import SCHEMAS
from shared import streams, subjects
from shared.subjects import decision_subject, question_subject
from tests.support.road import WatchedRoad, pod, until

pytestmark = pytest.mark.cluster

GOOD, BAD = "nginx:1.25", "registry.example/bad/asked:1"
FLOOD = 3000

WITHIN = 45.0
"""Seconds a client waits: more than any question is kept."""


@pytest.fixture
async def integrator(road: WatchedRoad) -> AsyncIterator[Client]:
    client = await nats.connect(**road.nats.options("integrator"))
    yield client
    await client.close()


@pytest.fixture
async def operator(road: WatchedRoad) -> AsyncIterator[Client]:
    client = await nats.connect(**road.nats.options("operator"))
    yield client
    await client.close()


async def ask(client: Client, **question: Any) -> Any:
    payload = json.dumps({"timeoutSeconds": 30, **question}).encode()
    reply = await client.request(question_subject("default"), payload, timeout=WITHIN)
    assert "Nats-Service-Error" not in (reply.headers or {}), reply.headers
    fits(reply.data, "moorgate.v1.verdict-answer")
    jsonschema.validate(reply.headers, HEADERS)
    return json.loads(reply.data)


def fits(payload: bytes, type_name: str) -> None:
    message = json.loads(payload)
    assert message["type"] == type_name
    jsonschema.validate(message, json.loads((SCHEMAS / f"{type_name}.json").read_text(encoding="utf-8")))


async def test_an_integrator_is_told_what_anchore_says(integrator: Client) -> None:
    answer = await ask(integrator, image=GOOD)
    assert (answer["outcome"], answer["image"]) == ("pass", "docker.io/library/nginx:1.25")
    assert answer["digest"].startswith("sha256:")
    failing = await ask(integrator, image=BAD)
    assert failing["outcome"] == "fail"
    assert failing["verdict"]["reasons"][0]["gate"] == "vulnerabilities"


async def test_a_question_spares_the_admission_its_wait_and_anchore_a_scan(
    road: WatchedRoad, kube: Kubectl, integrator: Client
) -> None:
    image = "registry.example/bulk/asked-before:1"
    await ask(integrator, image=image)
    checks = await road.calls("check", image)
    await kube.create(pod("asked", image))
    assert await road.calls("check", image) == checks


async def test_what_is_published_fits_its_schema_and_has_its_headers(
    kube: Kubectl, integrator: Client, operator: Client
) -> None:
    await kube.create(pod("told", GOOD))
    stream = operator.jetstream()
    subject = decision_subject(kube.namespace)

    async def event() -> Any:
        info = await stream.stream_info(subjects.EVENTS, subjects_filter=subject)
        return info.state.subjects and await stream.get_last_msg(subjects.EVENTS, subject)

    told = await until(event, "the decision", WITHIN)
    fits(told.data, "moorgate.v1.admission-decided")
    jsonschema.validate(told.headers, HEADERS)
    assert told.headers["ce-type"] == "moorgate.v1.admission-decided"
    assert told.headers["ce-id"] == told.headers["Nats-Msg-Id"] == json.loads(told.data)["id"]

    answer = await ask(integrator, image=GOOD)
    key = subjects.verdict_key("default", answer["bundleId"], answer["image"])
    for bucket, name, type_name in (
        (subjects.VERDICTS, key, "moorgate.v1.verdict"),
        (subjects.TENANTS, "default", "moorgate.v1.tenant"),
    ):
        value = await stream.get_last_msg(streams.bucket_stream(bucket), f"$KV.{bucket}.{name}", direct=True)
        fits(value.data or b"", type_name)


async def test_a_flood_of_questions_is_refused_and_admissions_go_on(kube: Kubectl, operator: Client) -> None:
    """Far more than a gateway takes in a second, all at once: each has an answer, and Pods are admitted meanwhile."""
    await ask(operator, image=GOOD)
    subject, question = question_subject("default"), b'{"image": "nginx:1.25"}'
    asking = [asyncio.create_task(operator.request(subject, question, timeout=WITHIN)) for _ in range(FLOOD)]
    started = time.monotonic()
    for number in range(3):
        await kube.create(pod(f"meanwhile-{number}", GOOD))
    assert time.monotonic() - started < WITHIN
    replies = await asyncio.gather(*asking)
    codes = {(reply.headers or {}).get("Nats-Service-Error-Code", "") for reply in replies}
    assert codes == {"", "429"}
