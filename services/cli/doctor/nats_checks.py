"""The checks that ask NATS: who may come in, whether its streams are as this version means them, and what serves the tenants.

Read as the user `operator` (docs/nats.md); nothing is changed.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import nats.errors
import nats.js.errors
from nats.js.api import ConsumerInfo, StreamConfig, StreamInfo

from services.cli import frame, status_nats
from services.cli.doctor.findings import Check, Finding, Severity
from services.cli.status_parts import Health, Part
from shared import streams, subjects
from shared.broker import Broker
from shared.contracts import TenantRecord
from shared.errors import MoorgateError, Unavailable
from shared.verdict_store import VerdictBuckets

OLDEST = (2, 11)
"""Version of NATS from which on single messages have a life of their own, as verdicts need it."""

NEARLY_FULL = 0.8
"""Share of a bound from which on it is told of."""

GREETING = 5.0
"""Seconds in which a server says what it is."""

_PORT = 4222

APPLY = "run `moorgate streams apply` (helm upgrade does), with MOORGATE_NATS_REPLICAS as large as the cluster is: 1 or 3"

_SAME = (
    "retention",
    "storage",
    "discard",
    "max_age",
    "max_bytes",
    "max_msg_size",
    "max_msgs_per_subject",
    "duplicate_window",
    "allow_direct",
    "allow_msg_ttl",
    "deny_delete",
)
"""What `apply` sets and a person may have changed."""

_BY_SERVER = {"duplicate_window": 120.0, "retention": "limits"}
"""What a server sets where we leave it to it."""

_MENDS = {
    "gateways": "kubectl get pods -l app.kubernetes.io/component=gateway, and their logs: do they reach NATS?",
    "tenant": "see docs/scanning.md: is the tenant's Anchore up, is a bundle active there, do scanners run?",
    "tenants": "kubectl get pods -l app.kubernetes.io/component=scanner, and their logs",
    "queue": "kubectl get pods -l app.kubernetes.io/component=scanner, and their logs",
    "decisions": "kubectl get pods -l app.kubernetes.io/component=audit-writer, and their logs",
}
"""For parts that `moorgate status` finds to be bad, by the first word of their names."""


class Greeting(msgspec.Struct, frozen=True):
    """INFO, the first line that a server sends: https://docs.nats.io/reference/reference-protocols/nats-protocol#info."""

    version: str = ""
    auth_required: bool = False
    tls_required: bool = False
    jetstream: bool = False
    cluster: str = ""


class NatsChecks:
    """All of them on one connection."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @property
    def all(self) -> list[tuple[str, Check]]:
        """By name."""
        return [
            ("nats server", self.server),
            ("streams", self.streams),
            ("room", self.room),
            ("services", self.services),
        ]

    async def tenants(self) -> dict[str, TenantRecord]:
        """The records of all. Raises `Unavailable`."""
        bucket = VerdictBuckets(self._broker)
        prefix = f"$KV.{subjects.TENANTS}."
        info = await self._stream(streams.bucket_stream(subjects.TENANTS), f"{prefix}>")
        names = [each.removeprefix(prefix) for each in (info.state.subjects if info else None) or {}]
        found = {name: await bucket.tenant(name) for name in names}
        return {name: record for name, record in found.items() if record}

    async def server(self) -> list[Finding]:
        """Whether strangers are kept out, and the server is new enough."""
        url = self._broker.client.connected_url
        if url is None:
            raise Unavailable("nats", "the connection is gone")
        return list(of_greeting(await _greeting(url.geturl())))

    async def streams(self) -> list[Finding]:
        """Whether all are there, as they are meant."""
        url = self._broker.client.connected_url
        is_clustered = bool((await _greeting(url.geturl())).cluster) if url else False
        found: list[Finding] = []
        for wanted in streams.stream_configs(1):
            info = await self._stream(str(wanted.name))
            if info is None:
                found.append(Finding("streams", Severity.ERROR, f"{wanted.name} is missing", APPLY))
            else:
                found += of_stream(wanted, info.config, is_clustered=is_clustered)
        for stream, durable in streams.durables():
            there = await self._durable(stream, str(durable.durable_name))
            if there is None:
                what = f"{stream} has no durable {durable.durable_name}: what it holds is taken by nobody"
                found.append(Finding("streams", Severity.ERROR, what, APPLY))
        return found

    async def room(self) -> list[Finding]:
        """Whether a stream is about to refuse."""
        found = []
        for wanted in streams.stream_configs(1):
            info = await self._stream(str(wanted.name))
            bound = (info.config.max_bytes or 0) if info else 0
            if info and bound > 0 and info.state.bytes > NEARLY_FULL * bound and _refuses(info.config):
                what = f"{wanted.name} is {info.state.bytes / bound:.0%} full, and takes nothing more beyond that"
                found.append(
                    Finding("room", Severity.WARNING, what, "see docs/operating.md, More room for NATS")
                )
        return found

    async def services(self) -> list[Finding]:
        """What `moorgate status` finds to be bad of those that speak to NATS."""
        parts: list[Part] = []
        for name, look in status_nats.looks(self._broker):
            if name not in ("streams", "dead letters"):
                parts += await look()
        found = [of_part(part) for part in parts if part.health is Health.BAD]
        return found + await self._dead_letters()

    async def _dead_letters(self) -> list[Finding]:
        info = await self._stream(subjects.DEAD)
        if not info or not info.state.messages:
            return []
        what = f"{info.state.messages} messages were given up"
        return [Finding("services", Severity.WARNING, what, "moorgate dead list, then retry or drop")]

    async def _stream(self, name: str, subjects_filter: str | None = None) -> StreamInfo | None:
        try:
            return await self._broker.jetstream.stream_info(name, subjects_filter=subjects_filter)
        except nats.js.errors.NotFoundError:
            return None
        except (nats.js.errors.Error, nats.errors.Error, TimeoutError) as error:
            raise self._meaning(name, error) from error

    async def _durable(self, stream: str, name: str) -> ConsumerInfo | None:
        try:
            found: ConsumerInfo = await self._broker.jetstream.consumer_info(stream, name)
        except nats.js.errors.NotFoundError:
            return None
        except (nats.js.errors.Error, nats.errors.Error, TimeoutError) as error:
            raise self._meaning(f"{stream}/{name}", error) from error
        return found

    def _meaning(self, what: str, error: Exception) -> MoorgateError:
        if refused := frame.refused_permission(self._broker, what.partition("/")[0]):
            return MoorgateError(f"this user of NATS may not look: {refused}; see docs/nats.md")
        return Unavailable("nats", f"{what}: {type(error).__name__} {error}")


def of_greeting(greeting: Greeting) -> Iterator[Finding]:
    """What a server tells to everybody who connects."""
    check = "nats server"
    if not greeting.auth_required:
        yield Finding(
            check,
            Severity.ERROR,
            "NATS asks nobody who he is: whoever reaches it forges verdicts, and so lets anything in",
            "give it users as in deploy/helm/moorgate/files/nats/users.conf (docs/nats.md)",
        )
    if not greeting.tls_required:
        yield Finding(
            check,
            Severity.WARNING,
            "NATS speaks plain text: passwords and verdicts can be read and changed on the way",
            "give it a certificate, and MOORGATE_NATS_CA_FILE to the services (docs/nats.md)",
        )
    numbers = greeting.version.split(".")[:2]
    if all(each.isdecimal() for each in numbers) and tuple(map(int, numbers)) < OLDEST:
        yield Finding(check, Severity.ERROR, f"NATS is {greeting.version}: verdicts need 2.11", "update it")
    if not greeting.jetstream:
        yield Finding(
            check, Severity.ERROR, "NATS runs without JetStream", "switch it on: jetstream { store_dir: … }"
        )


def of_stream(wanted: StreamConfig, there: StreamConfig, *, is_clustered: bool) -> Iterator[Finding]:
    """Where a stream is not as this version of Moorgate makes it."""
    changed = [
        f"{name} is {_shown(there, name)} instead of {_shown(wanted, name)}"
        for name in _SAME
        if _shown(there, name) != (_shown(wanted, name) or _BY_SERVER.get(name))
    ]
    if changed:
        what = f"{wanted.name}: {', '.join(changed)}"
        yield Finding("streams", Severity.WARNING, what, APPLY)
    if is_clustered and (there.num_replicas or 1) <= 1:
        what = (
            f"{wanted.name} keeps one copy although NATS is a cluster: with that server it is away, or lost"
        )
        yield Finding("streams", Severity.WARNING, what, APPLY)


def of_part(part: Part) -> Finding:
    """What `moorgate status` calls bad."""
    return Finding(
        "services",
        Severity.ERROR,
        f"{part.name}: {part.detail}",
        _MENDS.get(part.name.split()[0], "moorgate status"),
    )


def _shown(config: StreamConfig, name: str) -> Any:
    """A value, alike whether the server says it or we do: it leaves out what is nothing."""
    value = getattr(config, name, None)
    return value if value not in (None, -1, 0, 0.0) else None


def _refuses(config: StreamConfig) -> bool:
    return str(getattr(config.discard, "value", config.discard)) == "new"


async def _greeting(url: str) -> Greeting:
    """Raises `Unavailable` where nobody says so within `GREETING`: a server may want TLS before it speaks."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(GREETING):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or _PORT)
            try:
                line = await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()
        return msgspec.convert(json.loads(line.removeprefix(b"INFO ")), Greeting)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise Unavailable("nats", f"it does not say what it is: {type(error).__name__}") from error
