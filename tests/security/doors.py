"""The real ports of the services, in this process: the gateway's TLS port, the plain port, the notifications' port."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from prometheus_client import CollectorRegistry

from deploy.dev.page.stand import EVERYWHERE, People, Stand, open_stand
from services.gateway import config
from services.gateway.issuer import IssuerTimes
from services.gateway.metrics import GatewayMetrics
from services.gateway.tls import Tls
from services.gateway.webhook import Webhook
from services.scanner.hints import Hints
from services.scanner.metrics import NotificationMetrics
from services.scanner.notifications import NotificationSettings, serve_notifications
from shared.broker import Broker, BrokerSettings
from shared.certificates import CertificateFiles
from shared.contracts import Result
from shared.lifecycle import background
from shared.metrics import CommonMetrics
from shared.probes import Readiness, serve_probes
from shared.settings import Listen, Secret
from tests.gateway.test_webhook import Gateway

SECRET = "open-sesame"
ANY_PORT = Listen(host="127.0.0.1", port=0)


@dataclass(frozen=True)
class Port:
    """Where to knock, and whom to trust there."""

    number: int
    tls: ssl.SSLContext | None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.number}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.number, ssl=self.tls)

    async def answer(self, request: bytes, within: float = 20) -> bytes:
        """All that comes back until the other end closes."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            await writer.drain()
            return await asyncio.wait_for(_all(reader), within)
        finally:
            writer.transport.abort()


async def _all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def files_of(folder: Path, authority: trustme.CA) -> CertificateFiles:
    """A server's certificate for this machine, as files."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    folder.mkdir(parents=True, exist_ok=True)
    issued.private_key_pem.write_to_path(folder / "tls.key")
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    return CertificateFiles(folder / "tls.crt", folder / "tls.key")


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client that knows the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def gateway_port(
    folder: Path, authority: trustme.CA, *, client_ca: trustme.CA | None = None, secret: str | None = SECRET
) -> AsyncIterator[tuple[Port, Gateway]]:
    """The webhook behind its own TLS port, with settings as an operator writes them."""
    files = files_of(folder, authority)
    variables = {
        "MOORGATE_TLS_CERT_FILE": str(files.certificate),
        "MOORGATE_TLS_KEY_FILE": str(files.key),
        "MOORGATE_LISTEN": "127.0.0.1:0",
    }
    if secret:
        variables["MOORGATE_PATH_SECRET"] = secret
    if client_ca:
        client_ca.cert_pem.write_to_path(folder / "client-ca.pem")
        variables["MOORGATE_CLIENT_CA_FILE"] = str(folder / "client-ca.pem")
    settings = config.load(variables)
    gateway = Gateway()
    gateway.know("nginx:1")
    gateway.know("bad:1", Result.FAIL)
    webhook = Webhook(
        gateway.gate, gateway.metrics, max_wait=settings.max_wait, margin=0.5, secret=settings.path_secret
    )
    tls = Tls(settings, None, GatewayMetrics(CollectorRegistry()), IssuerTimes())
    ready = asyncio.Event()
    async with background(tls.keep(ready.set)):
        await ready.wait()
        async with tls.serve(webhook.server, settings.listen) as address:
            yield Port(address.port, trusting(authority)), gateway


@asynccontextmanager
async def plain_port() -> AsyncIterator[Port]:
    """`:9090` of every service."""
    registry = CollectorRegistry()
    CommonMetrics(registry)
    async with serve_probes(ANY_PORT, registry, Readiness()) as address:
        yield Port(address.port, None)


@asynccontextmanager
async def page_port(folder: Path, authority: trustme.CA) -> AsyncIterator[Port]:
    """The web page, for who has `SECRET` as a token."""
    async with open_stand(Stand(People({SECRET: {EVERYWHERE}})), folder, authority) as stand:
        yield Port(stand.port, trusting(authority))


@asynccontextmanager
async def notifications_port(folder: Path, authority: trustme.CA) -> AsyncIterator[Port]:
    """Where Anchore posts."""
    registry = CollectorRegistry()
    common = CommonMetrics(registry)
    metrics = NotificationMetrics(registry, common)
    broker = Broker(BrokerSettings(url="nats://127.0.0.1:9"), "tests", common)
    settings = NotificationSettings(listen=ANY_PORT, files=files_of(folder, authority), secret=Secret(SECRET))
    async with serve_notifications(settings, Hints(broker, metrics), metrics) as address:
        yield Port(address.port, trusting(authority))
