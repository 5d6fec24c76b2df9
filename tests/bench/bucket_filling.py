"""Fills the verdict bucket as scanners would have over a long time: the images of the load, and any number of others."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shared import contracts, images, subjects
from shared.broker import Broker
from shared.buckets import Bucket
from shared.contracts import Reason, Result, TenantRecord, Verdict
from shared.subjects import verdict_key

TENANT, BUNDLE, BUNDLE_HASH = "default", "bench-bundle", "5f0c"
_IN_FLIGHT = 512
_LIFE = timedelta(days=1)
_WARNINGS = tuple(
    Reason(
        gate="vulnerabilities",
        trigger="package",
        action="warn",
        text=f"MEDIUM Vulnerability found in os package type (dpkg) - package-{number} (CVE-2026-{number:04})",
        trigger_id=f"CVE-2026-{number:04}+package-{number}",
    )
    for number in range(3)
)


def verdict(image: str, *, is_long: bool = False) -> Verdict:
    """A pass, fresh for a day. `is_long`: with three findings, as most images have."""
    now = datetime.now(UTC)
    digest = f"sha256:{subjects.verdict_key('x', 'x', image).rpartition('.')[2]}"
    return Verdict(
        tenant=TENANT,
        image=image,
        digest=digest,
        list_digest=digest,
        bundle_id=BUNDLE,
        bundle_hash=BUNDLE_HASH,
        result=Result.PASS,
        evaluated_at=now,
        fresh_until=now + _LIFE,
        known_until=now + 7 * _LIFE,
        reasons=_WARNINGS if is_long else (),
        reasons_total=3 if is_long else 0,
    )


def normal(image: str) -> str:
    """The normalised reference."""
    return str(images.parse(image))


async def put_tenant(broker: Broker) -> None:
    """The tenant, with its one active bundle."""
    record = TenantRecord(
        tenant=TENANT,
        active_bundle_id=BUNDLE,
        bundles={BUNDLE: BUNDLE_HASH},
        read_at=datetime.now(UTC),
    )
    await Bucket(broker, subjects.TENANTS).put(TENANT, contracts.encode(record), ttl=86400)


async def put_verdicts(broker: Broker, written: Sequence[str], others: int) -> int:
    """Verdicts of the named images and of `others`; gives the bytes of all values."""
    for image in written:
        reference = normal(image)
        key = verdict_key(TENANT, BUNDLE, reference)
        value = contracts.encode(verdict(reference))
        await Bucket(broker, subjects.VERDICTS).put(key, value, ttl=86400)
    return await put_others(broker, range(others))


async def put_others(broker: Broker, numbers: range, *, is_long: bool = True) -> int:
    """Verdicts of made-up images; gives the bytes of their values."""
    plain = verdict(normal("registry.example/bulk/image-0000000:1"), is_long=is_long)
    total = 0
    stream = broker.client.jetstream(publish_async_max_pending=_IN_FLIGHT)
    pending: list[asyncio.Future[Any]] = []
    for number in numbers:
        image = f"registry.example/bulk/image-{number:07}:1"
        value = contracts.encode(msgspec.structs.replace(plain, image=image))
        total += len(value)
        subject = f"$KV.{subjects.VERDICTS}.{verdict_key(TENANT, BUNDLE, image)}"
        pending.append(
            await stream.publish_async(subject, value, wait_stall=30, headers={"Nats-TTL": "86400s"})
        )
        if len(pending) == _IN_FLIGHT:
            await asyncio.wait_for(asyncio.gather(*pending), 30)
            pending.clear()
    await asyncio.wait_for(asyncio.gather(*pending), 30)
    return total
