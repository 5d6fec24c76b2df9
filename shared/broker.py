"""The connection to NATS: made in the background, kept for ever, with one way to publish.

A service starts whether NATS is there or not; `connected()` waits for it. What is published carries
CloudEvents headers and a message id, and is acknowledged by the stream. A timeout does not mean "not
stored": whoever repeats repeats with the same id.

Answers come to inboxes of the user's own (`_INBOX_<user>.>`), so that permissions can keep them from others.

Traps of nats-py 2.16 dealt with here: `publish` changes the headers it is given, so each call makes
its own; a refused permission shows only in `error_cb`.
"""

import asyncio
import contextlib
import os
import re
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from shared import contracts, logs
from shared.errors import BadSetting, Conflict, Unavailable
from shared.metrics import CommonMetrics
from shared.settings import Environment, Secret
from shared.silence import cut, cut_when_silent

PUBLISH_TIMEOUT = 5.0
"""Seconds until an acknowledgement counts as missing; nats-py has then given the message to the socket."""

RECONNECT_WAIT = 0.25
"""Seconds between attempts to connect: NATS restarts in about a second."""

SAME_ERROR = 10.0
"""Seconds in which the same error is logged once: reconnecting meets it four times a second."""

DRAIN_TIMEOUT = 5.0
"""Seconds the last messages may take at the stop."""

CANCEL_AGAIN = 0.5
"""Seconds before a connection attempt that goes on although it was cancelled is cancelled again."""

KEPT_REFUSALS = 32
"""Permissions that were missing, remembered for whoever asks why an answer does not come."""

_INBOX_NAME = re.compile(r"[A-Za-z0-9_-]+")
"""What a user may be called to have inboxes of its own: one token of a subject."""

_WRONG_LAST_SEQUENCE = 10071
_TOO_MANY_FOR_SUBJECT = 10077


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach NATS."""

    url: str
    user: str | None = None
    password: Secret | None = None
    creds_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @classmethod
    def load(cls, environment: Environment) -> "BrokerSettings":
        """From `MOORGATE_NATS_…`. Raises `BadSetting`."""
        paths = {name: environment.file(f"MOORGATE_NATS_{name.upper()}") for name in _FILES}
        if (paths["cert_file"] is None) != (paths["key_file"] is None):
            raise BadSetting(
                "MOORGATE_NATS_CERT_FILE and MOORGATE_NATS_KEY_FILE belong together: set both or none"
            )
        _check_files(paths)
        url = environment.text("MOORGATE_NATS_URL", "nats://127.0.0.1:4222")
        if not _is_usable(url):
            raise BadSetting("MOORGATE_NATS_URL must be nats://host:port, or several of one kind with commas")
        return cls(
            url=url,
            user=environment.optional("MOORGATE_NATS_USER"),
            password=environment.secret("MOORGATE_NATS_PASSWORD"),
            **{name: str(path) if path else None for name, path in paths.items()},
        )

    @property
    def inbox_prefix(self) -> str:
        """Where answers come to; without a user, or with one that is no part of a subject, where everybody's do."""
        user = self.user or urlsplit(self.url.split(",")[0]).username or ""
        return f"_INBOX_{user}" if _INBOX_NAME.fullmatch(user) else "_INBOX"


_FILES = ("creds_file", "ca_file", "cert_file", "key_file")


class Broker:
    """One connection. `source` names this process in every message (`moorgate/gateway/<host>`)."""

    def __init__(self, settings: BrokerSettings, source: str, metrics: CommonMetrics) -> None:
        self.client = Client()
        self.source = source
        self._settings = settings
        self._metrics = metrics
        self._log = logs.logger("broker")
        self._connected = asyncio.Event()
        self._on_reconnect: list[Callable[[], None]] = []
        self.refusals: deque[str] = deque(maxlen=KEPT_REFUSALS)
        """What NATS did not let us do, as it said it, the latest first."""
        self._last_error, self._last_error_at = "", 0.0
        self.jetstream: JetStreamContext = self.client.jetstream(timeout=PUBLISH_TIMEOUT)

    @property
    def is_connected(self) -> bool:
        """True while the connection stands, as far as this end knows."""
        return self.client.is_connected

    async def connected(self) -> None:
        """Wait until the first connection stands."""
        await self._connected.wait()

    def on_reconnect(self, call: Callable[[], None]) -> None:
        """Call `call` after each reconnection: what the server kept for us in memory is gone."""
        self._on_reconnect.append(call)

    async def publish(
        self, subject: str, message: contracts.Message, message_id: str, trace: str = ""
    ) -> None:
        """Publish and wait for the stream's acknowledgement; repeating with the same id stores it once.

        Raises `Unavailable` when NATS did not acknowledge, `Permanent` when the message is too large.
        """
        await self.publish_raw(
            subject, contracts.encode(message), headers=self.headers(message.type_name(), message_id, trace)
        )

    async def publish_unless_waiting(self, subject: str, message: contracts.Message, trace: str = "") -> bool:
        """Publish to a stream that holds one message a subject; False: one waits there already.

        Carries no message id: the stream's window for ids would swallow a request repeated rightly.
        """
        headers = self.headers(message.type_name(), secrets.token_hex(16), trace)
        del headers["Nats-Msg-Id"]
        try:
            await self.publish_raw(subject, contracts.encode(message), headers=headers)
        except _OccupiedError:
            return False
        return True

    def headers(self, type_name: str, message_id: str, trace: str = "") -> dict[str, str]:
        """CloudEvents 1.0 attributes in binary mode, trace context and the id that dedupes.

        Sources: https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md,
        https://www.w3.org/TR/trace-context/
        """
        return {
            "Nats-Msg-Id": message_id,
            "ce-specversion": "1.0",
            "ce-id": message_id,
            "ce-type": type_name,
            "ce-source": self.source,
            "ce-time": datetime.now(UTC).isoformat(),
            "traceparent": trace or new_trace(),
        }

    async def publish_raw(self, subject: str, payload: bytes, headers: dict[str, str]) -> int:
        """Publish bytes; gives the sequence in the stream. Raises `Unavailable` and `Conflict`."""
        if not self.client.is_connected:
            raise Unavailable("nats", "not connected")
        try:
            acknowledgement = await self.jetstream.publish(subject, payload, headers=dict(headers))
        except nats.js.errors.APIError as error:
            if error.err_code == _WRONG_LAST_SEQUENCE:
                raise Conflict(f"{subject}: {error.description}") from error
            if error.err_code == _TOO_MANY_FOR_SUBJECT:
                raise _OccupiedError(subject) from error
            raise Unavailable("nats", f"{subject}: {error.description}") from error
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
            raise Unavailable("nats", f"{subject}: {type(error).__name__} {error}") from error
        return acknowledgement.seq

    async def _keep_connected(self) -> None:
        await self._connect()
        await cut_when_silent(self.client)

    async def _connect(self) -> None:
        settings = self._settings
        options: dict[str, Any] = {
            "servers": settings.url.split(","),
            "name": self.source,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_WAIT,
            "connect_timeout": 2,
            "ping_interval": 10,
            "max_outstanding_pings": 2,
            "drain_timeout": DRAIN_TIMEOUT,
            "inbox_prefix": settings.inbox_prefix,
            "error_cb": self._note_failure,
            "disconnected_cb": self._note_disconnection,
            "reconnected_cb": self._note_reconnection,
        }
        if settings.user and settings.password:
            options |= {"user": settings.user, "password": settings.password.reveal()}
        if settings.creds_file:
            options["user_credentials"] = settings.creds_file
        while True:
            try:
                if settings.ca_file or settings.cert_file:
                    options["tls"] = _tls(settings)
                await self.client.connect(**options)
                break
            except (
                nats.errors.Error,
                OSError,
                ValueError,
            ) as error:  # files that are being exchanged, for instance
                await self._note_error(error)
                await asyncio.sleep(RECONNECT_WAIT)
        server = self.client.connected_url  # it may hold a password
        self._log.info("nats_connected", server=f"{server.hostname}:{server.port}" if server else "")
        self._metrics.degraded.labels("nats").set(0)
        self._connected.set()

    async def _close(self) -> None:
        """Flush and close, whatever state the connection is in."""
        if self.client.is_connected:
            await self._flush()
        # What is still unsent can go nowhere: nats-py would write it to the connection that is gone, and fail.
        self.client._pending, self.client._pending_data_size = [], 0  # noqa: SLF001  there is no public way
        await self.client.close()

    async def _flush(self) -> None:
        """NATS that does not answer is said, and hides nothing of what else went wrong."""
        try:
            await self.client.flush(timeout=int(DRAIN_TIMEOUT))
        except (nats.errors.Error, OSError) as error:
            self._log.warning("nats_not_flushed", error=str(error) or type(error).__name__)

    async def _note_failure(self, error: Exception) -> None:
        """nats-py leaves a connection open that NATS took and then said nothing on, and makes another."""
        if self.client.is_connecting:
            cut(self.client)
        await self._note_error(error)

    async def _note_error(self, error: Exception) -> None:
        text, now = str(error) or type(error).__name__, asyncio.get_running_loop().time()
        is_refused = "permissions violation" in text.lower()
        if is_refused:
            self.refusals.appendleft(text)
            self._metrics.nats_permission_errors.inc()
        if text != self._last_error or now - self._last_error_at >= SAME_ERROR:
            if is_refused:
                user = self._settings.user or "without a name"
                self._log.error("nats_permission_missing", user=user, error=text, mend="see docs/nats.md")
            else:
                self._log.warning("nats_error", error=text)
            self._last_error, self._last_error_at = text, now

    async def _note_disconnection(self) -> None:
        if self.client.is_closed:
            return
        self._metrics.degraded.labels("nats").set(1)
        self._log.warning("nats_disconnected")

    async def _note_reconnection(self) -> None:
        self._metrics.degraded.labels("nats").set(0)
        self._log.info("nats_reconnected")
        for call in self._on_reconnect:
            call()


class _OccupiedError(Conflict):
    """A message waits under this subject already."""


@contextlib.asynccontextmanager
async def open_broker(settings: BrokerSettings, source: str, metrics: CommonMetrics) -> AsyncIterator[Broker]:
    """A broker that connects in the background; at the end what is buffered is flushed, then it closes."""
    broker = Broker(settings, source, metrics)
    metrics.degraded.labels("nats").set(1)
    connecting = asyncio.create_task(broker._keep_connected())  # noqa: SLF001  one module, two halves
    try:
        await asyncio.sleep(0)  # nats-py can close only what has begun to connect
        yield broker
    finally:
        while (
            not connecting.done()
        ):  # the `wait_for` of Python 3.11, deep in nats-py, can swallow a cancellation
            connecting.cancel()
            await asyncio.wait({connecting}, timeout=CANCEL_AGAIN)
        with contextlib.suppress(asyncio.CancelledError):
            await connecting
        await broker._close()  # noqa: SLF001  one module, two halves


def new_trace() -> str:
    """A traceparent of our own, for what no traced request started."""
    text = os.urandom(24).hex()
    return f"00-{text[:32]}-{text[32:]}-01"


def shown_url(url: str) -> str:
    """The addresses without the user and password that they may hold."""
    return ",".join(each.rpartition("@")[2] for each in url.split(","))


def _check_files(paths: Mapping[str, Path | None]) -> None:
    """What is no certificate, key or credentials is said at once, not when NATS is first connected to."""
    ca, cert, key, creds = (paths[name] for name in ("ca_file", "cert_file", "key_file", "creds_file"))
    try:
        if ca:
            ssl.create_default_context(cafile=str(ca))
    except (ssl.SSLError, OSError) as error:
        raise BadSetting(
            f"MOORGATE_NATS_CA_FILE: {ca} holds no certificate in PEM that can be used"
        ) from error
    try:
        if cert:
            ssl.create_default_context().load_cert_chain(str(cert), str(key))
    except (ssl.SSLError, OSError) as error:
        raise BadSetting(
            f"MOORGATE_NATS_CERT_FILE and MOORGATE_NATS_KEY_FILE: {cert} and {key} are no pair in PEM"
        ) from error
    if creds and b"BEGIN NATS USER JWT" not in creds.read_bytes():
        raise BadSetting(
            f"MOORGATE_NATS_CREDS_FILE: {creds} is no credentials file, as `nsc generate creds` writes it"
        )


def _is_usable(url: str) -> bool:
    """Whether nats-py can make servers of it: it finds out only when it connects, in the background."""
    schemes = set()
    for server in url.split(","):
        try:
            parts = urlsplit(server if "://" in server else f"nats://{server}")
            is_complete = bool(parts.hostname) and parts.port != 0
        except ValueError:
            return False
        if not is_complete:
            return False
        schemes.add(parts.scheme)
    return schemes <= {"nats", "tls"} or schemes <= {"ws", "wss"}


def _tls(settings: BrokerSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context
