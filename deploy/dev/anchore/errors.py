"""The four shapes in which the real server says no, as exceptions.

Its own (`detail`, `httpcode`, `message`), its schema validator's (application/problem+json), the plain text of a missing or
wrong password, and a 500 that carries an inner error as a string in `message`. API v2 has one shape for the first two
(`in_v2`): it is the API description's; which `error_type`s there are is not said there, so the status' own name is used.
"""

from http import HTTPStatus

import msgspec

from deploy.dev.anchore.wire import JsonObject, encode

JSON = "application/json"
PROBLEM = "application/problem+json"


class Refusal(Exception):
    """An answer that is not 200: what to send instead of the operation's result."""

    def __init__(
        self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers or {}


def refused(status: int, message: str, **detail: object) -> Refusal:
    """Anchore's own shape; `error_codes` is always there and mostly empty."""
    body: JsonObject = {"detail": {"error_codes": [], **detail}, "httpcode": status, "message": message}
    return Refusal(status, encode(body), JSON)


def problem(status: int, title: str, detail: str | None) -> Refusal:
    """The shape of the schema validator and the router."""
    body: JsonObject = {"detail": detail, "status": status, "title": title, "type": "about:blank"}
    return Refusal(status, encode(body), PROBLEM)


def bad_request(detail: str) -> Refusal:
    """A request that the schema does not allow."""
    return problem(400, "Bad Request", detail)


def unauthorized() -> Refusal:
    """No, unknown or wrong credentials: a text, not JSON."""
    headers = {"www-authenticate": 'basic realm="Authentication required"'}
    return Refusal(401, b"Unauthorized", "text/html; charset=utf-8", headers)


def forbidden(domain: str, action: str) -> Refusal:
    """Authenticated, but not allowed to do this there."""
    return refused(403, f"Not authorized. Requires permissions: domain={domain} action={action} target=*")


def in_v2(refusal: Refusal) -> Refusal:
    """The same refusal as API v2 words it; texts stay as they are."""
    if refusal.content_type not in {JSON, PROBLEM}:
        return refusal
    said: JsonObject = msgspec.json.decode(refusal.body)
    is_problem = refusal.content_type == PROBLEM
    body: JsonObject = {
        "detail": {} if is_problem else said["detail"],
        "error_type": HTTPStatus(refusal.status).phrase.replace(" ", ""),
        "message": (said["detail"] or said["title"]) if is_problem else said["message"],
    }
    return Refusal(refusal.status, encode(body), JSON, refusal.headers)


def image_not_found() -> Refusal:
    """No record of that digest in this account."""
    return refused(404, "image not found in DB")


def not_analyzed(status: str) -> Refusal:
    """The image is known, but there is nothing to judge yet."""
    return refused(404, f"image is not analyzed - analysis_status: {status}")


def no_evaluation() -> Refusal:
    """What a check says when something broke inside: looks like `unknown`, means `try again`."""
    return refused(404, "could not find any evaluations for input images")
