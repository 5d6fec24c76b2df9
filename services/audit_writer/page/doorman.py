"""What is asked of every request to the page before anything is shown, and what every answer bears.

Strangers' texts may stand on the page, so a browser is told to run, load and send nothing but the page's own; nobody may
put it into a frame, and nothing is kept on a disk. Signing in and out are the only requests that change anything, and
only the page's own forms may send them. Pure but for aiohttp's requests.
"""

import ipaddress
import re
from collections.abc import Mapping

from aiohttp import web

COOKIE = "__Host-moorgate"
"""A browser takes a cookie of this name only with Secure, Path=/ and no Domain: no neighbour can set it."""

MAX_TOKEN, MAX_COOKIE = 8000, 3800
"""Characters of a token in a header, and in a cookie: browsers keep 4 KiB."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""What a bearer token may be (RFC 6750)."""

_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@%?-][A-Za-z0-9._~!$&'()*+,;=:@%?/-]*)?", re.ASCII)
"""A place on this page to go on to, never another host's (`//other`)."""

_PORT = re.compile(r":[0-9]+$", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without a referrer forms would be sent with `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "moorgate",
}

STRICT_TRANSPORT = "max-age=31536000"
"""A year. Not for `localhost` and addresses: other ports of theirs may have no TLS, and a port-forward is no host of ours."""


async def dress(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """The headers of every answer."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    if _has_name(request.headers.get("Host", "")):
        response.headers["Strict-Transport-Security"] = STRICT_TRANSPORT


def token_of(request: web.BaseRequest) -> str:
    """The token that the request bears, in a header (a proxy's work) or in the cookie; empty: none that could be one."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return good_token(given.strip(), MAX_TOKEN)
    return good_token(request.cookies.get(COOKIE, ""), MAX_COOKIE)


def good_token(text: str, limit: int) -> str:
    """The text where it can be a token, else nothing."""
    return text if len(text) <= limit and _TOKEN.fullmatch(text) else ""


def is_by_proxy(request: web.BaseRequest) -> bool:
    """Whether somebody in front of the page signs people in."""
    return "Authorization" in request.headers


def is_from_here(headers: Mapping[str, str]) -> bool:
    """Whether the page's own form sent this: browsers say so, and nothing else counts."""
    if site := headers.get("Sec-Fetch-Site"):
        return site == "same-origin"
    return "Host" in headers and headers.get("Origin") == f"https://{headers['Host']}"


def is_led_here(headers: Mapping[str, str]) -> bool:
    """Whether a link on another site led here: then the browser has kept our cookie back."""
    return headers.get("Sec-Fetch-Site") == "cross-site" and headers.get("Sec-Fetch-Mode") == "navigate"


def cookie(token: str) -> str:
    """A Set-Cookie header; an empty token takes it back."""
    ends = "" if token else "; Max-Age=0"
    return f"{COOKIE}={token}; Path=/; Secure; HttpOnly; SameSite=Strict{ends}"


def place(text: str) -> str:
    """Where to go on to after signing in: a path of this page, else its beginning."""
    return text if len(text) <= MAX_COOKIE and _PATH.fullmatch(text) else "/"


def wants_html(request: web.BaseRequest) -> bool:
    """Whether a person looks; everybody else gets one line."""
    return "text/html" in request.headers.get("Accept", "")


def _has_name(host: str) -> bool:
    name = host.rpartition(":")[0] if _PORT.search(host) else host
    if name == "localhost" or name.endswith(".localhost") or not _NAME.fullmatch(name):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False
