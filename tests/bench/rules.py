"""What a decision costs where there are many rules: 10,000 whitelist items and 500 ImagePolicies against ten of each.

One process, no network: the gate as the gateway builds it, with an outbox that takes everything. Each admission is of
another workload with another of 2,000 known images, as in a cluster that runs. What an image costs that nobody has seen yet is
reported beside it: all policies are looked at once for it.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
from prometheus_client import CollectorRegistry

from services.gateway.admission import AdmissionRequest
from services.gateway.deadlines import deadline
from services.gateway.gate import Gate
from services.gateway.image_policies import ImagePolicies, ImagePolicy
from services.gateway.judge import Judge
from services.gateway.metrics import GatewayMetrics
from services.gateway.outbox import Outgoing
from services.gateway.scan_rates import ScanRates, parse_rate
from services.gateway.verdict_lookup import VerdictLookup
from shared import contracts, releases
from shared.broker import Broker, BrokerSettings, new_trace
from shared.buckets import Entry
from shared.contracts import TenantRecord
from shared.crds import WhiteListItem
from shared.objects import ObjectMeta
from shared.subjects import verdict_key
from shared.verdict_store import VerdictMirror
from shared.whitelist import Whitelist
from tests.bench import bucket_filling
from tests.bench.bucket_filling import BUNDLE, BUNDLE_HASH, TENANT
from tests.bench.figures import Figure, at_most, figure, ratios
from tests.bench.session import Sample, Session, interleaved
from tests.support.builders import admission, pod, rule, whitelist_item

MANY, FEW = (10_000, 500), (10, 10)
"""Whitelist items, half of them patterns, and ImagePolicies."""

_IMAGES = 2_000
_NAMESPACES = 20
_ADMISSIONS = 4_000
"""A run: some tenths of a second."""


async def run(session: Session) -> Sequence[Figure]:
    """Many against few."""
    many, few = (_Scene(*(session.size(each) for each in sizes)) for sizes in (MANY, FEW))
    admissions = session.size(_ADMISSIONS)
    for scene in (many, few):
        await scene.measure(max(admissions, _IMAGES))
    rounds = await interleaved(
        session, {"many": lambda: many.measure(admissions), "few": lambda: few.measure(admissions)}
    )
    each = {side: rounds.of(side, "each") for side in ("many", "few")}
    first = {side: rounds.of(side, "first") for side in ("many", "few")}
    return [
        figure(
            "rules: a decision under 10,000 items and 500 policies / under 10 and 10",
            "ratio",
            ratios(each["many"], each["few"]),
            at_most(1.2),
        ),
        figure("rules: CPU of a decision under 10 and 10", "µs", each["few"]),
        figure("rules: CPU of a decision under 10,000 and 500", "µs", each["many"]),
        figure("rules: CPU of an image's first decision under 10 and 10", "µs", first["few"]),
        figure("rules: CPU of an image's first decision under 10,000 and 500", "µs", first["many"]),
    ]


class _AnyOutbox:
    """Takes everything."""

    async def record(self, message: Outgoing, seconds: float) -> bool:  # noqa: ARG002  as the outbox
        return True


class _Names:
    """Namespaces' labels at once."""

    async def labels(self, name: str, seconds: float) -> dict[str, str]:  # noqa: ARG002  known at once
        return {"kubernetes.io/metadata.name": name, "team": f"team-{name[-1]}"}


class _Scene:
    """A gate under so many rules."""

    def __init__(self, items: int, policies: int) -> None:
        self._policies = policies
        metrics = GatewayMetrics(CollectorRegistry())
        broker = Broker(BrokerSettings(url="nats://127.0.0.1:1"), "bench", metrics)
        mirror = VerdictMirror(broker)
        _fill(mirror)
        whitelist = Whitelist(cluster_wide=True)
        whitelist.replace(list(_items(items)))
        image_policies = self._image_policies = ImagePolicies(rule())
        image_policies.replace(list(_policies(policies)))
        rates = ScanRates(parse_rate("rate", "50/min"), time.monotonic)
        judge = Judge(
            policies=image_policies,
            namespaces=_Names(),
            lookup=VerdictLookup(mirror, broker, rates, metrics),
            tenants=mirror.tenant,
            is_running=lambda _: False,
        )
        self._gate = Gate(
            whitelist=whitelist,
            release_labels=tuple(releases.DEFAULT_LABELS.split(",")),
            judge=judge,
            outbox=_AnyOutbox(),  # type: ignore[arg-type]  # only this much of it is used
        )
        self._requests = itertools.cycle(_requests())

    async def measure(self, admissions: int) -> Sample:
        """Microseconds of CPU for one: of images seen before, and of those nobody has seen since the policies changed."""
        each = await self._decide(admissions)
        self._image_policies.replace(list(_policies(self._policies)))
        return {"each": each, "first": await self._decide(min(admissions, _IMAGES))}

    async def _decide(self, admissions: int) -> float:
        now = asyncio.get_running_loop().time()
        limit = deadline(now, "10s", max_wait=3, margin=0.5)
        began = time.process_time()
        for request in itertools.islice(self._requests, admissions):
            answer = await self._gate.review(request, limit, now, new_trace())
            if not answer.response.allowed:
                raise RuntimeError(f"not let in: {answer.response.status}")
        return (time.process_time() - began) / admissions * 1e6


def _image(number: int) -> str:
    return f"registry.example/team-{number % 10}/app-{number:05}:1"


def _requests() -> list[AdmissionRequest]:
    return [
        admission(
            pod(_image(number), name=f"app-{number:05}-5cd466fccb-x{number:04}"),
            namespace=f"shop-{number % _NAMESPACES:02}",
        )
        for number in range(_IMAGES)
    ]


def _fill(mirror: VerdictMirror) -> None:
    record = TenantRecord(
        tenant=TENANT, active_bundle_id=BUNDLE, bundles={BUNDLE: BUNDLE_HASH}, read_at=datetime.now(UTC)
    )
    mirror.tenants._entries[TENANT] = Entry(1, contracts.encode(record))
    for number in range(_IMAGES):
        image = _image(number)
        value = contracts.encode(bucket_filling.verdict(image))
        mirror.verdicts._entries[verdict_key(TENANT, BUNDLE, image)] = Entry(number + 1, value)


def _items(count: int) -> Iterator[WhiteListItem]:
    """None of them covers what is admitted: the whole list has to be searched."""
    for number in range(count):
        name = f"release-{number:05}"
        yield whitelist_item(name, **({"regexp": f"team-{number}-[a-z]+-v[0-9]+"} if number % 2 else {}))


def _policies(count: int) -> Iterator[ImagePolicy]:
    """By namespace and by image; those that match stand last."""
    for number in range(count):
        spec: dict[str, object] = {"priority": count - number}
        if number % 2:
            spec["namespaceSelector"] = {"matchLabels": {"team": f"team-x{number}"}}
        else:
            spec["images"] = [f"registry.example/group-{number}/*", f"*/other-{number}:*"]
        yield _policy(f"policy-{number:04}", spec)
    yield _policy("policy-last", {"priority": -1, "images": ["registry.example/*"], "mode": "enforce"})


def _policy(name: str, spec: dict[str, object]) -> ImagePolicy:
    return ImagePolicy(metadata=ObjectMeta(name=name), spec=msgspec.Raw(msgspec.json.encode(spec)))
