"""What a gateway's metrics say from the first scrape on, of the mirror, and of a defect."""

from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from services.gateway.admission import AdmissionRequest, deny
from services.gateway.gate import Answer, Gate
from services.gateway.metrics import GatewayMetrics
from services.gateway.verdict_lookup import Source
from services.gateway.webhook import Webhook
from shared import contracts
from shared.broker import Broker, BrokerSettings
from shared.buckets import BucketMirror, Entry
from shared.contracts import Action
from shared.verdict_store import VerdictMirror
from tests.support.builders import START, pending, pod, review, scan_error, tenant_record, verdict
from tests.support.servers import client_of


class Scraped:
    """A gateway's metrics, as Prometheus reads them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = GatewayMetrics(self.registry)

    def value(self, sample: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"moorgate_{sample}", labels)


class Refusing:
    """A gate that refuses with this code, or breaks."""

    def __init__(self, code: int) -> None:
        self._code = code

    async def review(self, request: AdmissionRequest, *_: Any) -> Answer:
        if not self._code:
            raise ZeroDivisionError
        response = deny(request.uid, self._code, "no", {})
        return Answer(response, Action.REJECTED, Source.MEMORY)


async def _post(scraped: Scraped, code: int) -> int:
    gate = cast("Gate", Refusing(code))
    door = Webhook(gate, scraped.metrics, max_wait=3, margin=0.5, secret=None)
    async with (
        client_of(door) as client,
        client.post("/imagecheck", json=review(pod("nginx:1"))) as answer,
    ):
        return answer.status


@pytest.mark.parametrize(("code", "reason"), [(403, "policy"), (429, "pending"), (503, "error")])
async def test_a_refusal_is_counted_by_its_reason(code: int, reason: str) -> None:
    scraped = Scraped()
    assert await _post(scraped, code) == 200
    counted = {
        each: scraped.value("admission_refusals_total", reason=each)
        for each in ("policy", "error", "pending")
    }
    assert counted == {"policy": 0, "error": 0, "pending": 0, reason: 1}


async def test_a_defect_is_counted_as_500() -> None:
    scraped = Scraped()
    assert await _post(scraped, 0) == 500
    assert scraped.value("admission_bad_requests_total", code="500") == 1


def test_what_is_alerted_on_begins_at_zero() -> None:
    scraped = Scraped()
    for action in Action:
        labels = {"operation": "CREATE", "resource": "Pod", "action": action.value}
        assert scraped.value("admission_requests_total", **labels) == 0
    for source in Source:
        assert scraped.value("admission_duration_seconds_count", source=source.value) == 0
    assert scraped.value("decisions_unrecorded_total") == 0
    assert "process_resident_memory_bytes" in generate_latest(scraped.registry).decode()


def test_states_and_tenants_are_counted_as_the_mirror_holds_them() -> None:
    scraped = Scraped()
    mirror = VerdictMirror(Broker(BrokerSettings(url="nats://127.0.0.1:9"), "tests", scraped.metrics))
    scraped.metrics.watch(mirror)
    assert scraped.value("scan_states", state="pending") == 0
    _put(mirror.verdicts, verdict())
    _put(mirror.states, pending(), pending(), scan_error())
    mirror.states._entries["broken"] = Entry(1, b"{")
    _put(mirror.tenants, tenant_record("a"), tenant_record("b"), tenant_record("c", away_since=START))
    assert scraped.value("verdict_mirror_entries") == 1
    assert scraped.value("scan_states", state="pending") == 2
    assert scraped.value("scan_states", state="error") == 1
    assert scraped.value("tenants", state="served") == 2
    assert scraped.value("tenants", state="away") == 1


def _put(mirror: BucketMirror, *messages: contracts.Message) -> None:
    for number, message in enumerate(messages):
        mirror._entries[f"key-{number}"] = Entry(1, contracts.encode(message))
