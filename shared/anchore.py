"""Anchore over HTTP: who we are there, one request, one answer. It knows no API's shapes and holds no rules.

Two use it: the scanner's clients of both APIs, and the bootstrap. An answer of any status is a `Reply`; no answer at
all is `Unavailable`. Redirections are not followed: they would take the password to wherever they point.
"""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import aiohttp
import msgspec

from shared.errors import MoorgateError, Refused, Unavailable
from shared.proxies import has_proxy
from shared.redaction import Redaction, basic_token
from shared.settings import Secret

CALL_TIMEOUT = 30.0
"""Seconds for one call: adding an image makes Anchore ask the registry first."""

CONNECT_TIMEOUT = 5.0
"""Seconds to get a connection."""

MAX_ANSWER = 8 * 1024 * 1024
"""Bytes: a check with thousands of findings stays below, a broken server need not."""

MAX_TEXT = 1000
"""Characters kept of an error's text: it goes to logs, and a broken server may say megabytes."""

LONGEST_DELAY = 30.0
"""Seconds a Retry-After is heeded: all workers of the tenant wait, and a server may name any number."""

_AWAY = frozenset({408, 429, 502, 503, 504})
"""Statuses by which a server, or what stands before it, says that it cannot answer now."""

_OK, _REDIRECTED, _NOT_FOUND = 200, 300, 404


class AnchoreApi(StrEnum):
    """Which API to speak; `auto` takes what the server answers, v2 before v1."""

    AUTO = "auto"
    V1 = "v1"
    V2 = "v2"


class AnchoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where an Anchore is, and who we are there."""

    url: str
    """Up to and without the version: `http://anchore-api:8228`."""
    username: str
    password: Secret
    api: AnchoreApi = AnchoreApi.AUTO
    ca_file: str | None = None
    skip_verify: bool = False
    account: str | None = None
    """Act for this account (x-anchore-account); None: the user's own."""

    @property
    def root(self) -> str:
        """The address that paths such as `/v1/images` are appended to."""
        return self.url.rstrip("/").removesuffix("/v1").removesuffix("/v2").rstrip("/")


class TooLarge(MoorgateError):
    """An answer without a reasonable end."""

    def __init__(self, status: int, message: str) -> None:
        """`status`: the HTTP status, for metrics."""
        super().__init__(message)
        self.status = status


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the error bodies of both APIs have in common: the Engine's own, its schema's, and Enterprise's."""

    message: str = ""
    detail: Any = None
    title: str = ""

    @property
    def text(self) -> str:
        """The sentence in it, whichever field holds it, cut."""
        said = self.message or (self.detail if isinstance(self.detail, str) else "") or self.title
        return said[:MAX_TEXT]

    @property
    def codes(self) -> list[str]:
        """Such as `REGISTRY_IMAGE_NOT_FOUND`; mostly empty."""
        codes = self.detail.get("error_codes") if isinstance(self.detail, dict) else None
        return [code for code in codes if isinstance(code, str)] if isinstance(codes, list) else []

    @property
    def is_of_the_service(self) -> bool:
        """The service itself refused, not the schema before it: its own errors have a detail of fields."""
        return isinstance(self.detail, dict)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of any status but those that mean that nobody is there."""

    status: int
    body: bytes

    @property
    def is_ok(self) -> bool:
        """A status below 300."""
        return self.status < _REDIRECTED

    @property
    def error(self) -> ErrorBody:
        """The body as an error; one that is no JSON is its own message, cut."""
        try:
            return _ERROR.decode(self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return ErrorBody(message=self.body[:200].decode(errors="replace"))


class AnchoreHttp:
    """Requests to one Anchore, as one user."""

    def __init__(self, session: aiohttp.ClientSession, settings: AnchoreSettings) -> None:
        """`session` is made by `open_session` with the same settings."""
        self._session = session
        self._root = settings.root
        password = settings.password.reveal()
        token = basic_token(settings.username, password)
        self._secrets = (token, password)
        self._in_errors, self._in_answers = Redaction(self._secrets), Redaction((token,))

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        hide: Secret | None = None,
    ) -> Reply:
        """One request. Raises `Unavailable` (no answer, or one that says so) and `TooLarge`.

        What is said of a request that failed holds neither our password nor `hide`, which stands in the body, though
        the server, or what stands before it, may have sent them back.
        """
        hidden = Redaction((*self._secrets, hide.reveal())) if hide else self._in_errors
        try:
            async with self._session.request(
                method, self._root + path, params=query, json=body, allow_redirects=False
            ) as response:
                reply = Reply(status=response.status, body=await _bounded(response))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = hidden.of_text(f"{type(error).__name__} {error}")
            # Without its cause: that quotes what came, too.
            raise Unavailable("anchore", f"{method} {path}: {said[:MAX_TEXT]}") from None
        # Of an answer that is one only the token is looked for: a short password may stand in any finding.
        hiding = self._in_answers if reply.is_ok else hidden
        reply = Reply(status=reply.status, body=hiding.of_bytes(reply.body))
        if reply.status in _AWAY:
            delay = _retry_after(response.headers.get("Retry-After", ""), datetime.now(UTC))
            message = f"{method} {path}: HTTP {reply.status} {reply.error.text}".strip()
            raise AnsweredAway(reply.status, message, delay=delay)
        return reply

    async def detect(self) -> AnchoreApi:
        """Which API the server speaks. Raises `Unavailable`, `TooLarge`, and `Refused` where it speaks neither."""
        for api in (AnchoreApi.V2, AnchoreApi.V1):
            reply = await self.request("GET", f"/{api}/version")
            if reply.status == _OK and _is_object(reply.body):
                return api
            if reply.status not in {_OK, _NOT_FOUND}:
                raise Refused(reply.status, f"GET /{api}/version: {reply.error.text}")
        raise Refused(
            _NOT_FOUND, "the server has neither /v2/version nor /v1/version: no Anchore API is there"
        )


class AnsweredAway(Unavailable):
    """The server answered that it cannot answer."""

    def __init__(self, status: int, message: str, *, delay: float) -> None:
        """`status`: the HTTP status, for metrics."""
        super().__init__("anchore", message, delay=delay)
        self.status = status


def open_session(settings: AnchoreSettings) -> aiohttp.ClientSession:
    """Connections to one Anchore, with its credentials and trust. Close it."""
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    headers = {
        "Accept": "application/json",
        "User-Agent": "moorgate",
        "Authorization": aiohttp.encode_basic_auth(settings.username, settings.password.reveal()),
    }
    if settings.account:
        headers["x-anchore-account"] = settings.account
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=context),
        timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
        headers=headers,
        trust_env=has_proxy(settings.url),  # a hosted Anchore is often behind a company's proxy
    )


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    answer = await response.content.read(MAX_ANSWER + 1)
    while not response.content.at_eof() and len(answer) <= MAX_ANSWER:
        answer += await response.content.read(MAX_ANSWER + 1 - len(answer))
    if len(answer) > MAX_ANSWER:
        response.close()
        raise TooLarge(response.status, f"an answer of more than {MAX_ANSWER} bytes")
    return answer


def _retry_after(text: str, now: datetime) -> float:
    """Seconds to leave the server alone: a number or a date (RFC 9110, 10.2.3), bounded; else one."""
    if text.isdecimal():
        return min(LONGEST_DELAY, float(text))
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 1.0
    delay = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return min(LONGEST_DELAY, max(1.0, delay))


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(body), dict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


_ERROR = msgspec.json.Decoder(ErrorBody)
