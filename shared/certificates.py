"""A TLS door: what it shows to callers and, where a client CA is given, whom it lets in.

The certificate comes from a source (mounted files, or the Secret of our own issuer), which is looked at
every few seconds. Something new that fits together is used for new connections; what is open goes on with
what it began with. Something that doesn't fit (a certificate whose key is not there yet, half a file, a
Secret that is gone) changes nothing but a log line and `moorgate_degraded{part="certificate"}`.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec
from prometheus_client import Gauge

from shared import logs
from shared.errors import BadSetting, MoorgateError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

LOOK_EVERY = 2.0
"""Seconds between two looks at the source. The files are small: their content is compared, not their times."""

_NO_PASSWORD = b"-"
"""For keys that want one: without it OpenSSL would ask at the terminal."""


class BadCertificate(MoorgateError):
    """What a source holds can't be used; the text says why."""


class KeyPair:
    """A certificate (or its chain) and its private key, PEM; it doesn't print."""

    __slots__ = ("certificate", "key")

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.certificate = certificate
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyPair) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    def __repr__(self) -> str:
        return "KeyPair(…)"

    @property
    def _parts(self) -> tuple[bytes, bytes]:
        return self.certificate, self.key


class Source(Protocol):
    """Where certificates come from."""

    async def read(self) -> KeyPair:
        """The pair to use now. Raises `BadCertificate`, `Unavailable`, `Refused`."""


class DoorMetrics(Protocol):
    """What a door tells."""

    @property
    def degraded(self) -> Gauge: ...  # noqa: D102
    @property
    def certificate_not_after(self) -> Gauge: ...  # noqa: D102


class CertificateFiles(msgspec.Struct, frozen=True):
    """A certificate and its key as files that somebody else rotates: a mounted Secret, cert-manager, certbot."""

    certificate: Path
    key: Path

    async def read(self) -> KeyPair:
        """What the files hold now."""
        return KeyPair(_content(self.certificate), _content(self.key))


class Door(ssl.SSLContext):
    """A TLS context that gives each new connection the context in force.

    Changing a context in place would leave it broken by a key that doesn't fit, could only ever add client CAs,
    and would resume sessions of callers whose CA is no longer trusted. asyncio and uvloop alike ask the
    context they listen with for each connection's TLS object; that is where this one hands over.
    """

    current: ssl.SSLContext | None

    def __new__(cls) -> Self:
        """Begins without a certificate."""
        door = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        door.current = None
        return door

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Without a certificate yet, the handshake fails."""
        return self.current.wrap_bio(*args, **options) if self.current else super().wrap_bio(*args, **options)


class Certificates:
    """Keeps a door up to date from a source."""

    def __init__(
        self,
        source: Source,
        client_ca: Path | None,
        metrics: DoorMetrics,
        *,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self.door = Door()
        self._source = source
        self._client_ca = client_ca
        self._metrics = metrics
        self._look_every = look_every
        self._taken: tuple[KeyPair, bytes | None] | None = None
        self._failure = ""
        self._log = logs.logger("certificates")

    async def run(self, ready: Callable[[], None]) -> None:
        """Look until cancelled; `ready` is called once there is something to show."""
        while True:
            await self.look()
            if self._taken is not None:
                ready()
            await asyncio.sleep(self._look_every)

    async def look(self) -> None:
        """Take what is new; keep what there is when that isn't to be had or can't be used."""
        try:
            await self.take()
        except MoorgateError as error:
            self._metrics.degraded.labels("certificate").set(1)
            if self._failure != str(error):
                self._log.warning("certificate_not_taken", error=str(error), serving_old=bool(self._taken))
            self._failure = str(error)

    async def take(self) -> None:
        """Use what the source holds now. Raises `BadCertificate`, `Unavailable`, `Refused`."""
        found = await self._source.read(), _content(self._client_ca) if self._client_ca else None
        if found != self._taken:
            self.door.current = server_context(*found)
            self._taken = found
            self._tell(_leaf(found[0].certificate))
        self._failure = ""
        self._metrics.degraded.labels("certificate").set(0)

    def _tell(self, leaf: "Certificate") -> None:
        until = leaf.not_valid_after_utc
        self._metrics.certificate_not_after.set(until.timestamp())
        is_over = until < datetime.now(UTC)
        self._log.log(
            logging.WARNING if is_over else logging.INFO,
            "certificate_expired" if is_over else "certificate_taken",
            serial=f"{leaf.serial_number:x}",
            until=str(until),
        )


async def require_usable(
    files: CertificateFiles | None, client_ca: Path | None, *, settings: str = "MOORGATE_TLS"
) -> None:
    """What is wrong at the start stops the process; `settings`: how the files' begin. Raises `BadSetting`."""
    try:
        if files:
            server_context(await files.read(), None)
    except BadCertificate as error:
        raise BadSetting(f"{settings}_CERT_FILE and {settings}_KEY_FILE: {error}") from error
    try:
        if client_ca:
            _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), _content(client_ca))
    except BadCertificate as error:
        raise BadSetting(f"MOORGATE_CLIENT_CA_FILE: {error}") from error


def server_context(pair: KeyPair, client_ca: bytes | None) -> ssl.SSLContext:
    """A server context of TLS 1.2 or later. Raises `BadCertificate` when the parts do not fit together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, pair)
    if client_ca is not None:
        _trust(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _trust(context: ssl.SSLContext, client_ca: bytes) -> None:
    try:
        context.load_verify_locations(cadata=client_ca.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise BadCertificate(f"the client CA can't be read: {error}") from error


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Into the context through files in memory: the ssl module takes only files, and a key stays off disks."""
    try:
        _leaf(pair.certificate)
    except ValueError as error:
        raise BadCertificate(f"the certificate can't be read: {error}") from error
    with _in_memory(pair.certificate) as certificate, _in_memory(pair.key) as key:
        try:
            context.load_cert_chain(certificate, key, password=_NO_PASSWORD)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise BadCertificate(f"certificate and key do not fit together: {error}") from error


def _leaf(certificate: bytes) -> "Certificate":
    """The first certificate of a PEM file. Raises `ValueError`."""
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415  8 MB: only for who shows a certificate

    return load_pem_x509_certificate(certificate)


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """The path of a file that only this process has, and only for now."""
    memory = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(memory, content)
        yield f"/proc/self/fd/{memory}"
    finally:
        os.close(memory)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadCertificate(f"cannot read {path}: {error.strerror}") from error
