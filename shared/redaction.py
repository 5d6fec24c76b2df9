"""Secrets taken out of what others say: a proxy or a broken server may send our own credentials back to us.

Errors of a neighbour end in logs, scan states, answers to whoever creates a Pod, and Audits. So what is not an answer is
searched for the secrets that went out with the request, in every form in which it can come back, before anything is cut
off it. A secret of fewer than four characters is not looked for: it would be found everywhere.
"""

import base64
import html
import json
from collections.abc import Iterable
from urllib.parse import quote

SHORTEST = 4
"""Characters of a secret that can be told from other text."""

HIDDEN = "[hidden]"


class Redaction:
    """Some secrets, ready to be looked for."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)  # the longest first: one may stand in another

    def of_text(self, text: str) -> str:
        """The text without them."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text

    def of_bytes(self, content: bytes) -> bytes:
        """The same of bytes that may be no text at all."""
        for form in self._forms:
            content = content.replace(form.encode(), HIDDEN.encode())
        return content


def basic_token(username: str, password: str) -> str:
    """What HTTP basic authentication sends, without its first word."""
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def _forms(secret: str) -> Iterable[str]:
    """As it is, and as JSON, an address, a page, Python's own messages or a header write it."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret, safe="")
    yield html.escape(secret)
    yield repr(secret.encode())[2:-1]
    yield base64.b64encode(secret.encode()).decode()
