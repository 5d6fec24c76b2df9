"""Whether anybody asks the gateways: which registrations count, and what the leader says of it."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.gateway.metrics import GatewayMetrics
from services.gateway.registered import is_registered, watch_registration
from services.gateway.registration import registration_of
from shared.cluster import Cluster
from shared.errors import MoorgateError, Unavailable
from tests.support.virtual_time import virtually

PODS = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods", "pods/ephemeralcontainers"]}
PODS |= {"operations": ["CREATE", "UPDATE"]}
SERVICE = {"service": {"name": "moorgate-gateway", "namespace": "moorgate", "path": "/imagecheck"}}
PART_OF = {"app.kubernetes.io/part-of": "moorgate"}


def listed(
    *,
    rule: Mapping[str, Any] = PODS,
    client: Mapping[str, Any] = SERVICE,
    labels: Mapping[str, str] | None = None,
) -> bytes:
    webhook = {"name": "pods.moorgate.test", "clientConfig": client, "rules": [rule]}
    return json.dumps(
        {"items": [{"metadata": {"name": "x", "labels": labels or {}}, "webhooks": [webhook]}]}
    ).encode()


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (listed(), True),
        (listed(client={"url": "https://127.0.0.1/"}, labels=PART_OF), True),
        (listed(rule={"apiGroups": ["*"], "resources": ["*"], "operations": ["*"]}), True),
        (b'{"items": []}', False),
        (b'{"items": [{"metadata": {"name": "x"}}]}', False),
        (listed(client={"url": "https://127.0.0.1/"}), False),
        (listed(client={"service": {"name": "moorgate-gateway", "namespace": "elsewhere"}}), False),
        (listed(rule=PODS | {"apiGroups": ["apps"]}), False),
        (listed(rule=PODS | {"resources": ["pods/ephemeralcontainers"]}), False),
        (listed(rule=PODS | {"operations": ["UPDATE"]}), False),
    ],
    ids=[
        *("by Service", "by label", "by wildcards", "nothing", "no webhooks"),
        *("another's URL", "another's Service", "not Pods", "not Pods themselves", "not new ones"),
    ],
)
def test_what_counts_as_registered(answer: bytes, counts: bool) -> None:  # noqa: FBT001
    assert is_registered(registration_of(answer), "moorgate") is counts


class Listing(Cluster):
    """An API server with one answer."""

    def __init__(self) -> None:
        self.answer: bytes | MoorgateError = listed()

    async def request(self, method: str, path: str, **_: Any) -> bytes:
        assert (method, path.rpartition("/")[2]) == ("GET", "validatingwebhookconfigurations")
        if isinstance(self.answer, MoorgateError):
            raise self.answer
        return self.answer


@virtually
async def test_the_leader_says_so_while_nobody_asks_and_keeps_its_word_while_the_api_server_is_away() -> None:
    cluster, metrics = Listing(), GatewayMetrics(CollectorRegistry())
    degraded = metrics.degraded.labels("registration")
    seen = []
    watching = asyncio.create_task(watch_registration(cluster, "moorgate", metrics, look_every=30))
    for answer in (listed(), b'{"items": []}', Unavailable("the API server", "gone"), listed()):
        cluster.answer = answer
        await asyncio.sleep(31)
        seen.append(degraded._value.get())
    assert seen == [0, 1, 1, 0]
    cluster.answer = b'{"items": []}'
    await asyncio.sleep(31)
    watching.cancel()
    await asyncio.wait([watching])
    assert degraded._value.get() == 0, "who leads no longer does not know"
