"""Every form in which a secret can come back is found, and nothing else is."""

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.redaction import HIDDEN, SHORTEST, Redaction, basic_token

SECRET = 'pä"ss<w>\\ord&1'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps({"x": SECRET}),
        json.dumps({"x": SECRET}, ensure_ascii=False),
        f"https://ada:{quote(SECRET, safe='')}@r.example/",
        f"<p>{html.escape(SECRET)}</p>",
        repr(f"Authorization: {SECRET}".encode()),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_every_form_is_hidden(form: str) -> None:
    redaction = Redaction((SECRET,))
    hidden = redaction.of_text(f"before {form} after")
    assert HIDDEN in hidden
    assert "ss<w" not in hidden
    assert "ord" not in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    assert redaction.of_bytes(b"\xff" + form.encode()) == b"\xff" + redaction.of_text(form).encode()


def test_a_secret_within_another_leaves_no_rest() -> None:
    assert Redaction(("open", "open-sesame")).of_text("open-sesame") == HIDDEN


def test_what_is_too_short_to_be_told_from_text_is_left() -> None:
    assert Redaction(("a" * (SHORTEST - 1), "")).of_text("aaaaaa") == "aaaaaa"


def test_the_token_is_that_of_basic_authentication() -> None:
    assert basic_token("ada", "pass:wörd") == base64.b64encode("ada:pass:wörd".encode()).decode()


@given(st.text(min_size=SHORTEST, max_size=30).filter(lambda text: text not in HIDDEN), st.text(), st.text())
def test_the_secret_itself_is_never_left(secret: str, before: str, after: str) -> None:
    hidden = Redaction((secret,)).of_text(before + secret + after)
    assert len(hidden.split(HIDDEN)) > 1
