"""The cold path: from an AdmissionReview about an image nobody has asked for to its answer, beside Anchore's own time.

Each sample is a pair: the two calls of Anchore's API made directly, then an admission of another image. What the
admission takes longer is Moorgate's: gateway, queue, scanner, bucket and back.
"""

import json
import ssl
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.bench import scans, webhooks
from tests.bench.anchore import BUNDLE
from tests.bench.figures import Figure, at_most, figure
from tests.bench.scans import Scene
from tests.bench.session import Session
from tests.bench.webhooks import WebhookProcess
from tests.support.builders import pod, review

LATENCIES = 0.0, 0.020
_SAMPLES = 150
"""A round."""

_AUTH = aiohttp.encode_basic_auth("admin", "foobar")


@dataclass(frozen=True, kw_only=True)
class _Asker:
    scene: Scene
    gateway: WebhookProcess
    session: aiohttp.ClientSession
    tls: ssl.SSLContext

    async def over(self, direct: str, admitted: str) -> float:
        """Milliseconds that the admission of one image took longer than the calls about another."""
        anchore = await self._anchore(direct)
        began = time.perf_counter()
        body = review(pod(admitted, name="cold"), uid=f"cold-{time.monotonic_ns()}")
        async with self.session.post(f"{self.gateway.url}?timeout=10s", json=body, ssl=self.tls) as answer:
            said = await answer.read()
        taken = time.perf_counter() - began
        found = json.loads(said)["response"]
        if not found["allowed"] or found["auditAnnotations"]["source"] != "wait":
            raise RuntimeError(f"{admitted}: {found}")
        return (taken - anchore) * 1000

    async def _anchore(self, image: str) -> float:
        """Seconds of the two calls that a scan makes."""
        base, headers = f"{self.scene.anchore.url}/v1", {"Authorization": _AUTH}
        began = time.perf_counter()
        async with self.session.post(f"{base}/images", json={"tag": image}, headers=headers) as answer:
            [record] = await answer.json()
        query = {"tag": image, "policyId": BUNDLE, "detail": "true", "history": "false"}
        url = f"{base}/images/{record['imageDigest']}/check"
        async with self.session.get(url, params=query, headers=headers) as answer:
            await answer.read()
        return time.perf_counter() - began


async def run(session: Session) -> Sequence[Figure]:
    """By the simulator's latency."""
    async with scans.scene(session, "cold") as scene, AsyncExitStack() as stack:
        await stack.enter_async_context(scene.scanner())
        folder = scene.stand.folder
        pair = webhooks.certificate(folder)
        settings = {"MOORGATE_SCAN_RATE": "1000000/min"}
        gateway = webhooks.gateway(folder, "gateway", scene.stand.nats.url, pair, settings)
        await stack.enter_async_context(gateway)
        client = await stack.enter_async_context(aiohttp.ClientSession())
        tls = _trusting(pair.ca)
        asker = _Asker(scene=scene, gateway=gateway, session=client, tls=tls)
        found = {latency: await _measure(session, asker, latency) for latency in LATENCIES}
    return [each for latency, samples in found.items() for each in _figures(latency, samples)]


async def _measure(session: Session, asker: _Asker, latency: float) -> list[list[float]]:
    await asker.scene.anchore.slow_down(latency)
    rounds = []
    for number in range(session.rounds):
        images = iter(await asker.scene.images(2 * session.size(_SAMPLES)))
        rounds.append([await asker.over(*pair) for pair in zip(images, images, strict=True)])
        session.log(
            f"round {number + 1}, at {latency * 1000:g} ms: p50 {statistics.median(rounds[-1]):.1f} ms"
        )
    return rounds


def _figures(latency: float, rounds: list[list[float]]) -> list[Figure]:
    at = f"Anchore at {latency * 1000:g} ms"
    return [
        figure(f"cold: p50 over {at}", "ms", [statistics.median(each) for each in rounds], at_most(10)),
        figure(
            f"cold: p99 over {at}",
            "ms",
            [sorted(each)[int(len(each) * 0.99)] for each in rounds],
            at_most(40),
        ),
    ]


def _trusting(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca))
