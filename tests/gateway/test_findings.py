"""Findings kept from one admission to the next: what ends them."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from services.gateway import findings as findings_module
from services.gateway.findings import Finding, HeldFindings, Question
from services.gateway.metrics import GatewayMetrics
from shared import contracts, images
from shared.broker import Broker, BrokerSettings
from shared.buckets import Entry
from shared.contracts import Result
from shared.evidence import Known, weigh
from shared.subjects import verdict_key
from shared.verdict_store import VerdictMirror
from tests.support.builders import BUNDLE, START, TAG, pending, rule, tenant_record, verdict

FRESH = START + timedelta(seconds=60)


class World:
    """A mirror written by hand, and what is held of it."""

    def __init__(self) -> None:
        metrics = GatewayMetrics(CollectorRegistry())
        self.mirror = VerdictMirror(Broker(BrokerSettings(url="nats://127.0.0.1:1"), "test", metrics))
        self.held = HeldFindings(self.mirror)
        self.tenant(tenant_record())

    def tenant(self, record: contracts.TenantRecord) -> None:
        self.mirror.tenants._entries[record.tenant] = Entry(1, contracts.encode(record))

    def key(self, image: str = TAG) -> str:
        return verdict_key(self.question().rule.tenant, BUNDLE, str(images.parse(image)))

    def question(self, image: str = TAG) -> Question:
        return Question(images.parse(image), rule(), is_worth_waiting=True)

    def known(self, image: str = TAG, result: Result = Result.PASS, revision: int = 1) -> Finding:
        """A verdict in the mirror, weighed as an admission does."""
        self.mirror.verdicts._entries[self.key(image)] = Entry(revision, contracts.encode(verdict(result)))
        record = self.mirror.tenant(rule().tenant)
        assert record
        known = Known(
            reference=images.parse(image),
            stored=self.mirror.verdict(self.key(image)),
            state=self.mirror.state(self.key(image)),
            bundle_hash=record.bundles[BUNDLE],
        )
        finding = Finding(weigh(known, FRESH), BUNDLE)
        self.held.keep(self.key(image), self.question(image), known, finding)
        return finding

    def found(self, *asked: str, seconds: float = 1) -> list[Finding] | None:
        questions = [self.question(image) for image in asked or (TAG,)]
        return self.held.all_of(questions, FRESH + timedelta(seconds=seconds))


def test_a_fresh_verdict_is_weighed_once() -> None:
    world = World()
    finding = world.known()
    found = world.found()
    assert found
    assert found[0] is finding


def test_one_image_that_is_not_held_has_all_of_them_weighed() -> None:
    world = World()
    world.known()
    assert world.found(TAG, "nginx:other") is None


def _another_verdict(world: World) -> None:
    world.mirror.verdicts._entries[world.key()] = Entry(2, contracts.encode(verdict(Result.FAIL)))


def _a_scan_state(world: World) -> None:
    world.mirror.states._entries[world.key()] = Entry(3, contracts.encode(pending()))


def _no_verdict(world: World) -> None:
    del world.mirror.verdicts._entries[world.key()]


def _another_record(world: World) -> None:
    world.tenant(tenant_record())


def _no_record(world: World) -> None:
    world.mirror.tenants._entries.clear()


@pytest.mark.parametrize(
    "change", [_another_verdict, _a_scan_state, _no_verdict, _another_record, _no_record]
)
def test_whatever_changes_ends_what_is_held(change: Callable[[World], None]) -> None:
    world = World()
    world.known()
    change(world)
    assert world.found() is None


def test_age_ends_it_by_itself() -> None:
    world = World()
    world.known()
    assert world.found(seconds=86400) is None


def test_only_so_many_are_held_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings_module, "MAX_HELD", 2)
    world = World()
    for image in ("nginx:1", "nginx:2", "nginx:1", "nginx:3"):
        world.known(image)
    assert world.found("nginx:1", "nginx:3")
    assert world.found("nginx:2") is None
