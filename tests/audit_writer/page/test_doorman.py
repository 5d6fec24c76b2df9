"""What is asked of a request before anything is shown, and what a person is told to do."""

import random
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.dev.page import made_up
from services.audit_writer.page import doorman, guidance
from services.audit_writer.page.doorman import COOKIE, MAX_COOKIE, MAX_TOKEN
from shared.crds import AuditState

JWT = "eyJhbGciOi.eyJpc3MiOi._sig-x"


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"Authorization": f"Bearer {JWT}"}, JWT),
        ({"Authorization": f"bearer  {JWT}"}, JWT),
        ({"Cookie": f"{COOKIE}={JWT}"}, JWT),
        ({"Cookie": f"{COOKIE}=abc/+d=="}, "abc/+d=="),
        ({"Authorization": f"Bearer {JWT}", "Cookie": f"{COOKIE}=other"}, JWT),
        ({"Authorization": "Basic YTpi"}, ""),
        ({"Authorization": "Bearer"}, ""),
        ({"Authorization": 'Bearer a"b'}, ""),
        ({"Authorization": "Bearer " + "a" * (MAX_TOKEN + 1)}, ""),
        ({"Cookie": f"{COOKIE}={'a' * (MAX_COOKIE + 1)}"}, ""),
        ({"Cookie": f"moorgate={JWT}"}, ""),
        ({}, ""),
    ],
)
def test_a_token_comes_by_header_or_cookie(headers: Mapping[str, str], token: str) -> None:
    assert doorman.token_of(make_mocked_request("GET", "/", headers=headers)) == token


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "https://page.example:9443", "Host": "page.example:9443"}, True),
        ({"Origin": "https://evil.example", "Host": "page.example:9443"}, False),
        ({"Origin": "http://page.example:9443", "Host": "page.example:9443"}, False),
        ({"Origin": "null", "Host": "null"}, False),
        ({"Host": "page.example"}, False),
        ({}, False),
    ],
)
def test_forms_come_from_the_page_itself(headers: Mapping[str, str], *, is_ours: bool) -> None:
    assert doorman.is_from_here(headers) is is_ours


@pytest.mark.parametrize("text", ["/", "/audits?q=a+b&state=degraded", "/audits/shop/replicaset-web"])
def test_after_signing_in_one_is_where_one_was(text: str) -> None:
    assert doorman.place(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/a\r\nSet-Cookie: x=y",
        "audits",
        "/" * 5000,
    ],
)
def test_and_nowhere_else(text: str) -> None:
    assert doorman.place(text) == "/"


@settings(deadline=None)
@given(st.text())
def test_no_text_leads_to_another_host(text: str) -> None:
    place = doorman.place(text)
    assert place.startswith("/")
    assert not place.startswith(("//", "/\\"))
    assert place.isprintable()


@pytest.mark.parametrize(
    ("host", "has_name"),
    [
        ("moorgate.example", True),
        ("moorgate.example:9443", True),
        ("localhost:9443", False),
        ("x.localhost", False),
        ("127.0.0.1:9443", False),
        ("[::1]:9443", False),
        ("", False),
    ],
)
def test_only_names_are_held_to_tls_for_a_year(host: str, *, has_name: bool) -> None:
    assert doorman._has_name(host) is has_name


@settings(deadline=None)
@given(st.text(max_size=600))
def test_commands_are_quoted_whatever_a_stranger_calls_his_image(name: str) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    audit = made_up.audit("shop", "web", AuditState.REJECTED, now, random.Random(1), image=name or "x")
    for step in guidance.steps(audit):
        assert step.command.isprintable()
        assert shlex.split(step.command)[0] in {"moorgate", "kubectl"}
        assert not {";", "|", "&&"} & set(shlex.split(step.command)[1:]) - {name}


@pytest.mark.parametrize(
    ("state", "lets_in"), [("rejected", True), ("degraded", True), ("admitted", False), ("observed", False)]
)
def test_what_to_do_follows_from_the_state(state: str, *, lets_in: bool) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    commands = [
        each.command
        for each in guidance.steps(made_up.audit("shop", "web", AuditState(state), now, random.Random(1)))
    ]
    assert commands[0].startswith("moorgate explain audit/replicaset-web-")
    assert (
        any(each.startswith("moorgate whitelist add web --namespace shop --for 24h") for each in commands)
        is lets_in
    )
