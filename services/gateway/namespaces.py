"""Labels of namespaces: mirrored by a watch, and for a namespace not seen yet read once, within a bound.

A Pod can arrive a millisecond after its namespace. Guessing then let bad Pods in elsewhere: here the one
that asks first reads it from the API server for all that ask, and when it cannot be had in time, nothing
is known of it, which is for the rules to judge and never in favour of the Pod.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

import msgspec

from shared import logs
from shared.cluster import Cluster
from shared.errors import MoorgateError
from shared.objects import ObjectMeta

PATH = "/api/v1/namespaces"

READ_TIMEOUT = 1.0
"""Seconds at most for the one read: an API server that cannot answer in this time has other worries."""

READS = 16
"""Reads at once: a flood of namespaces must not become a flood of requests."""

NAME_LABEL = "kubernetes.io/metadata.name"
"""Set by the API server on every namespace since 1.21; a namespace's name, whatever its other labels."""


class NamespaceLabels(Protocol):
    """Whoever knows the labels of namespaces."""

    async def labels(self, name: str, seconds: float) -> Mapping[str, str] | None:
        """The labels, at the latest after `seconds`; None when they cannot be had."""


class NamesOnly:
    """Without a cluster a namespace has the one label that follows from its name."""

    async def labels(self, name: str, seconds: float) -> Mapping[str, str]:  # noqa: ARG002  known at once
        """The name, as the API server would label it."""
        return {NAME_LABEL: name}


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace: its labels are all that counts."""

    metadata: ObjectMeta


_NAMESPACE = msgspec.json.Decoder(Namespace)


class Namespaces:
    """A feed of `shared.watches.Watch`, with a way to ask for what it lacks."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._labels: dict[str, Mapping[str, str]] = {}
        self._reads: dict[str, asyncio.Task[Mapping[str, str] | None]] = {}
        self._slots = asyncio.Semaphore(READS)
        self._log = logs.logger("namespaces")

    def replace(self, items: list[Namespace]) -> None:
        """These are all there are."""
        self._labels = {item.metadata.name: _labels(item) for item in items}

    def put(self, item: Namespace) -> None:
        """This one is new or changed."""
        self._labels[item.metadata.name] = _labels(item)

    def remove(self, item: Namespace) -> None:
        """This one is gone."""
        self._labels.pop(item.metadata.name, None)

    async def labels(self, name: str, seconds: float) -> Mapping[str, str] | None:
        """The labels, at the latest after `seconds`; None when they cannot be had."""
        known = self._labels.get(name)
        if known is not None:
            return known
        read = self._reads.get(name)
        if read is None:
            read = self._reads[name] = asyncio.create_task(self._read(name))
            read.add_done_callback(lambda _: self._reads.pop(name, None))
        try:
            return await asyncio.wait_for(asyncio.shield(read), min(seconds, READ_TIMEOUT))
        except TimeoutError:
            return None

    async def _read(self, name: str) -> Mapping[str, str] | None:
        async with self._slots:
            if name in self._labels:  # the watch was faster
                return self._labels[name]
            try:
                found = await self._cluster.get(f"{PATH}/{name}", _NAMESPACE, timeout=READ_TIMEOUT)
            except MoorgateError as error:
                self._log.warning("namespace_not_read", namespace=name, error=str(error))
                return None
        return None if found is None else self._labels.setdefault(name, _labels(found))


def _labels(item: Namespace) -> Mapping[str, str]:
    return {**item.metadata.labels, NAME_LABEL: item.metadata.name}
