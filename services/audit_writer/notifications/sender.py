"""One POST to one target, and what it came to.

The status alone counts: the answer's body is not read, so nobody's size or slowness matters, and an
answer that breaks off after its status is no reason to send twice. Redirections are not followed: they
would take secrets to wherever they point. Nothing said here holds an address, a header or a text of the
other side: an incoming webhook's URL is a secret, and errors of aiohttp show it.
"""

import errno
import os
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import version

import aiohttp
import msgspec

from services.audit_writer.notifications.targets import Target

CALL_TIMEOUT = 15.0
"""Seconds for one call, name and connection included."""

CONNECT_TIMEOUT = 5.0
"""Seconds to get a connection."""

LONGEST_RETRY_AFTER = 900.0
"""Seconds a Retry-After is heeded: a server may name any number."""

_ASKED_TO_RETRY = frozenset({408, 425, 429})
_OK, _REDIRECTED, _REFUSED, _SERVER_ERROR = 200, 300, 400, 500


class Outcome(StrEnum):
    """What a call came to."""

    SENT = "sent"
    RETRY = "retry"
    REFUSED = "refused"


class Answer(msgspec.Struct, frozen=True):
    """What a call came to and why, in words that hold no secret."""

    outcome: Outcome
    why: str
    retry_after: float = 0.0
    """Seconds the target asked to be left alone; 0: it did not."""


def open_session(target: Target) -> AbstractAsyncContextManager[aiohttp.ClientSession]:
    """A session for this target alone; proxies as the environment says (HTTPS_PROXY, NO_PROXY)."""
    context = ssl.create_default_context(cafile=target.ca_file)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=8),
        timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT, connect=CONNECT_TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"moorgate/{version('moorgate')}"},
        trust_env=True,
    )


async def post(session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send once. Raises nothing of the network's: every failure is an answer."""
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return _answer(response.status, response.headers.get("Retry-After", ""))
    except (aiohttp.ClientError, OSError) as error:
        return Answer(Outcome.RETRY, _reason(error))


def _answer(status: int, retry_after: str) -> Answer:
    if _OK <= status < _REDIRECTED:
        return Answer(Outcome.SENT, f"status {status}")
    if _REDIRECTED <= status < _REFUSED:
        return Answer(Outcome.RETRY, f"status {status}: redirections are not followed, correct the URL")
    if _REFUSED <= status < _SERVER_ERROR and status not in _ASKED_TO_RETRY:
        return Answer(Outcome.REFUSED, f"status {status}")
    return Answer(Outcome.RETRY, f"status {status}", _seconds(retry_after, datetime.now(UTC)))


def _seconds(retry_after: str, now: datetime) -> float:
    """Of a Retry-After: a number or an HTTP date; 0 for anything else."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after[:9]), LONGEST_RETRY_AFTER)
    try:
        wait = (parsedate_to_datetime(retry_after) - now).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return 0.0
    return max(0.0, min(wait, LONGEST_RETRY_AFTER))


def _reason(error: Exception) -> str:
    """The kind of failure: the text of the error may show the URL."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "its certificate is not trusted, or TLS failed"
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known"
        case aiohttp.ClientConnectorError():
            return f"cannot connect: {os.strerror(error.os_error.errno or errno.EHOSTUNREACH)}"
        case TimeoutError():
            return "no answer in time"
        case _:
            return f"no answer: {type(error).__name__}"
