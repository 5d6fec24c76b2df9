"""What is there when everything has settled: Pods and Audits in the API server, records in the stream.

An Audit is told by what it says, not by its name: a second one of a Pod would have another name.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from typing import Any

import aiohttp
import msgspec

from tests.chaos.ledger import Ledger
from tests.chaos.oracle import Admission, Held, Noted, Reckoning, reckon
from tests.support.api import GROUP, Api, pods

PAGE = 500

LOOK = 1.0
"""Seconds between two looks at what is still on its way."""


async def settle(
    api: Api, namespace: str, ledger: Ledger, admissions: Collection[Admission], patience: float
) -> Reckoning:
    """The reckoning once nothing is on its way any more: when it is clean, or nothing has come for so many seconds."""
    seen, since = (-1, -1), time.monotonic()
    while True:
        held = await _held(api, namespace, ledger)
        if held is not None:
            reckoning = reckon(admissions, held)
            if reckoning.is_clean:
                return reckoning
            if (now := (len(held.records), len(held.audits))) != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                return reckoning
        elif time.monotonic() - since > 2 * patience:
            raise TimeoutError(
                f"neither the stream nor the API server told what is there within {2 * patience:g} s"
            )
        await asyncio.sleep(LOOK)


async def _held(api: Api, namespace: str, ledger: Ledger) -> Held | None:
    """None: it could not be had now."""
    if not await ledger.read():
        return None
    try:
        there = [each["metadata"]["name"] async for each in _each(api, pods(namespace))]
        audits = [each async for each in _each(api, f"{GROUP}/namespaces/{namespace}/audits")]
    except (aiohttp.ClientError, OSError, msgspec.DecodeError, AssertionError):
        return None
    return Held(
        pods=there,
        records=list(ledger.records),
        audits=[
            # A Pod without a release is its own: its name.
            Noted(pod=each["spec"]["releaseName"], decision=each["status"]["decision"]["id"])
            for each in audits
        ],
    )


async def _each(api: Api, path: str) -> AsyncIterator[dict[str, Any]]:
    on = ""
    while True:
        page = await api.ok("GET", f"{path}?limit={PAGE}{on}")
        for each in page["items"]:
            yield each
        if not (token := page["metadata"].get("continue")):
            return
        on = f"&continue={token}"
