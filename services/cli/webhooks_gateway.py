"""Whether a gateway really answers there: by the name, the authority and the path that the API server will use.

A webhook that fails closed and cannot be reached refuses every Pod of the cluster, so this is asked before it is registered.
A request without a type is enough: a gateway of the path refuses it as such (415), one of another path does not know it (404).
Where gateways ask callers for a certificate nobody but the API server can ask further than the handshake.
"""

import asyncio
import ssl

import aiohttp
from cryptography import x509

from services.cli.bootstrap.plan import Failed
from services.cli.webhooks_file import Target
from shared.authority import pem
from shared.errors import Unavailable

TIMEOUT = 5.0
"""Seconds for one attempt."""

_NOT_FOUND, _ANSWERS = 404, (200, 400, 413, 415)


async def ask(target: Target, trusted: tuple[x509.Certificate, ...]) -> None:
    """One attempt. Raises `Unavailable` while nobody answers as it should, `Failed` when the path is another."""
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
    except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError):
        return  # after the handshake: a gateway that wants a client's certificate
    if status == _NOT_FOUND:
        raise Failed(
            f"the gateway at {target} does not know the path: it and --path-secret must be given the same Secret"
        )
    if status not in _ANSWERS:
        raise Unavailable("the gateway", f"{target} answers {status}")


async def _shake_hands(target: Target, context: ssl.SSLContext) -> None:
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        raise Unavailable("the gateway", f"{target}: {error.verify_message}") from error
    except (TimeoutError, OSError, ssl.SSLError) as error:
        raise Unavailable("the gateway", f"{target}: {type(error).__name__} {error}") from error
    writer.close()
    try:
        await writer.wait_closed()
    except (OSError, ssl.SSLError):
        return  # it was reached: how it says goodbye is its own affair
