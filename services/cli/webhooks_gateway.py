"""Whether a gateway really answers there: by the name, the authority and the path that the API server will use.

A webhook that fails closed and cannot be reached refuses every Pod of the cluster, so this is asked before it is registered.
A request without a type is enough: a gateway of the path refuses it as such (415), one of another path does not know it (404).
Where gateways ask callers for a certificate nobody but the API server can ask further than the handshake.
"""

import asyncio
import contextlib
import ssl

import aiohttp
from cryptography import x509

from services.cli.webhooks_file import Target
from shared.authority import pem
from shared.errors import Unavailable

TIMEOUT = 5.0
"""Seconds for one attempt."""

_NOT_FOUND, _ANSWERS = 404, (200, 400, 413, 415)


async def ask(target: Target, trusted: tuple[x509.Certificate, ...]) -> None:
    """One attempt. Raises `Unavailable` while nobody answers as it should.

    Also for another path: during an upgrade a gateway of before may answer, and the next attempt meets a new one.
    """
    context = ssl.create_default_context(cadata=pem(trusted).decode())
    await _shake_hands(target, context)
    address = f"[{target.host}]" if ":" in target.host else target.host
    url = f"https://{address}:{target.port}{target.path}"
    try:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, ssl=context, data=b"", headers={"Content-Type": "text/plain"}) as answer,
        ):
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
        if await _wants_certificate(target, context):
            return
        raise Unavailable("the gateway", f"{target}: {type(error).__name__} {error}".rstrip()) from error
    if status == _NOT_FOUND:
        raise Unavailable(
            "the gateway",
            f"{target} does not know the path: it and --path-secret must be given the same Secret",
        )
    if status not in _ANSWERS:
        raise Unavailable("the gateway", f"{target} answers {status}")


async def _wants_certificate(target: Target, context: ssl.SSLContext) -> bool:
    """Whether the other end hangs up before it was asked anything: that is how the want of a certificate shows.

    In TLS 1.3 it is found only after the client's handshake, and asyncio's servers then close without an alert. One
    that takes the connection, and fails with the request, fails for another reason.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
            try:
                return not await reader.read(1)
            finally:
                await _hang_up(writer)
    except ssl.SSLError:
        return True
    except (TimeoutError, OSError):
        return False


async def _shake_hands(target: Target, context: ssl.SSLContext) -> None:
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        raise Unavailable("the gateway", f"{target}: {error.verify_message}") from error
    except (TimeoutError, OSError, ssl.SSLError) as error:
        raise Unavailable("the gateway", f"{target}: {type(error).__name__} {error}") from error
    await _hang_up(writer)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Without a goodbye, for which the other end might let us wait; what is not waited for the loop's end leaves open."""
    writer.transport.abort()
    with contextlib.suppress(OSError, ssl.SSLError):  # it was reached: how it takes that is its own affair
        await writer.wait_closed()
