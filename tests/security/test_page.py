"""The page against who sends it things: headers, forms of others, hostile names, tokens that must stay, ports that must answer."""

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec
import pytest
import structlog
import trustme

from deploy.dev.page import made_up
from deploy.dev.page.pictures import sign_in
from deploy.dev.page.stand import EVERYWHERE, People, Stand, open_stand
from services.audit_writer.page import live, server
from services.audit_writer.page.doorman import COOKIE
from services.audit_writer.page.live import MAX_OF_ONE
from shared.contracts import Reason
from shared.crds import Audit, AuditState
from tests.security.doors import Port, trusting
from tests.support.browser import browser

HTML = {"Accept": "text/html"}
TOKEN = "a.token.that-must-stay"
HOSTILE = (
    """<img src=x onerror="document.title='OWNED'">'"><script>document.title='OWNED'</script>{{7*7}}${7*7}"""
)
NOW = datetime.now(UTC)


def audit(
    state: AuditState = AuditState.REJECTED, number: int = 1, image: str = "", namespace: str = "shop"
) -> Audit:
    return made_up.audit(namespace, f"web-{number}", state, NOW, random.Random(number), image=image)


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    authority = trustme.CA()
    made = Stand(People({TOKEN: {EVERYWHERE}, "shopkeeper": {"shop"}, "nobody": set()}))
    made.put(audit())
    async with open_stand(made, tmp_path, authority):
        made.door = Port(made.port, trusting(authority))  # type: ignore[attr-defined]
        yield made


@pytest.fixture
async def session(stand: Stand) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(stand.url, connector=aiohttp.TCPConnector(ssl=False)) as made:
        yield made


BEARER = {**HTML, "Authorization": f"Bearer {TOKEN}"}


async def test_every_answer_tells_the_browser_to_be_careful(session: aiohttp.ClientSession) -> None:
    for path, headers in (
        ("/", BEARER),
        ("/", HTML),
        ("/sign-in", HTML),
        ("/nowhere", HTML),
        ("/live", {}),
        ("/audits/a/b", BEARER),
    ):
        async with session.get(path, headers=headers) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "same-origin"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "aiohttp" not in answer.headers["Server"]
            assert "Strict-Transport-Security" not in answer.headers, "an address is no name"
    named = {**HTML, "Host": "moorgate.example"}
    async with session.get("/sign-in", headers=named) as answer:
        assert "max-age" in answer.headers["Strict-Transport-Security"]


async def test_the_page_names_nothing_of_others(session: aiohttp.ClientSession) -> None:
    """It works without the internet, and sends nobody there."""
    async with session.get("/", headers=BEARER) as answer:
        html = await answer.text()
    assert re.findall(r'(?:src|href|action)="(?!/|#)', html) == []
    assert " style=" not in html
    assert re.findall(r"\son\w+=", html) == []
    for path in re.findall(r'"(/static/[^"]+)"', html):
        async with session.get(path) as answer:
            assert answer.status == 200
            assert "immutable" in answer.headers["Cache-Control"]
            assert "http" not in (await answer.text()).replace("http://www.w3.org/", "")


async def test_the_form_makes_a_cookie_that_nothing_reads(session: aiohttp.ClientSession) -> None:
    own = {**HTML, "Sec-Fetch-Site": "same-origin"}
    form = {"token": f" {TOKEN}\n", "next": "/audits?q=x"}
    async with session.post("/sign-in", data=form, headers=own, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/audits?q=x")
        cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}={TOKEN};")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"} == {
        each.strip() for each in cookie.split(";")[1:]
    }
    async with session.get("/", headers={**HTML, "Cookie": f"{COOKIE}={TOKEN}"}) as answer:
        assert (answer.status, "Sign out" in await answer.text()) == (200, True)
    async with session.post("/sign-out", data={}, headers=own, allow_redirects=False) as answer:
        assert answer.status == 303
        assert "Max-Age=0" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("headers", "form", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, {"token": TOKEN}, 403),
        ({"Origin": "https://evil.example"}, {"token": TOKEN}, 403),
        ({}, {"token": TOKEN}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, {"token": "of nobody"}, 400),
        ({"Sec-Fetch-Site": "same-origin"}, {"token": "of-nobody"}, 401),
        ({"Sec-Fetch-Site": "same-origin"}, {"token": "a" * 20_000}, 413),
        ({"Sec-Fetch-Site": "same-origin"}, {"token": "a" * 5000}, 400),
        ({"Sec-Fetch-Site": "same-origin"}, {}, 400),
        ({"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}, {"token": TOKEN}, 415),
    ],
)
async def test_forms_that_are_not_the_pages_set_no_cookie(
    session: aiohttp.ClientSession, headers: dict[str, str], form: dict[str, str], status: int
) -> None:
    for path in ("/sign-in", "/sign-out"):
        async with session.post(path, data=form, headers=headers, allow_redirects=False) as answer:
            if path == "/sign-in" or status in (403, 413, 415):
                assert answer.status == status
                assert "Set-Cookie" not in answer.headers


async def test_a_form_that_never_comes_to_its_end_is_given_up(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audit_writer.page.entrance.FORM_TIMEOUT", 0.5)
    head = (
        "POST /sign-in HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ntoken="
    )
    answer = await stand.door.answer(head.encode())  # type: ignore[attr-defined]
    assert answer.startswith(b"HTTP/1.1 408"), answer


async def test_a_link_from_elsewhere_leads_in_by_itself(session: aiohttp.ClientSession) -> None:
    """A browser keeps a strict cookie back there; the page then asks once more, by itself, and no more."""
    led = {**HTML, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    async with session.get("/audits?q=x", headers=led) as answer:
        html = await answer.text()
        assert (answer.status, 'content="0; url=/audits?q=x"' in html) == (200, True)
    async with session.get("/audits?q=x", headers={**HTML, "Sec-Fetch-Site": "same-origin"}) as answer:
        assert answer.status == 401


async def test_no_token_is_logged_or_shown(
    session: aiohttp.ClientSession, stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "eyJ.secret.token-of-somebody"
    stand.people.rights[secret] = {EVERYWHERE}
    with structlog.testing.capture_logs() as told:
        own = {**HTML, "Sec-Fetch-Site": "same-origin"}
        async with session.post("/sign-in", data={"token": "wrong.token.of-mine"}, headers=own) as answer:
            assert "wrong.token" not in await answer.text()
        for headers in (
            {"Authorization": f"Bearer {secret}"},
            {"Cookie": f"{COOKIE}={secret}"},
            {"Authorization": "Bearer wrong.token.of-mine"},
        ):
            async with session.get("/audits?q=1", headers=headers) as answer:
                await answer.read()
    assert "wrong.token" not in str(told) + caplog.text
    for each in told:
        assert secret not in str({name: value for name, value in each.items() if name != "user"})


async def test_streams_are_bounded_and_end_with_their_reader(session: aiohttp.ClientSession) -> None:
    opened = []
    for _ in range(MAX_OF_ONE):
        stream = await session.get("/live", headers=BEARER)
        assert stream.status == 200
        opened.append(stream)
    async with session.get("/live", headers=BEARER) as answer:
        assert answer.status == 503
    for stream in opened:
        stream.close()
    async with asyncio.timeout(10):
        while True:
            async with session.get("/live", headers=BEARER) as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.05)


async def test_a_change_is_told_to_who_may_see_it(
    session: aiohttp.ClientSession, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(live, "LEAST_PAUSE", 0.1)
    for path, token, expected in (
        ("/live", "shopkeeper", ["shop"]),
        ("/live?namespace=edge", TOKEN, ["edge"]),
        ("/live", TOKEN, ["edge", "shop"]),
    ):
        async with session.get(path, headers={"Authorization": f"Bearer {token}"}) as stream:
            assert (await stream.content.readline()).startswith(b"retry")
            heard = []
            for number, namespace in enumerate(("edge", "shop")):
                stand.put(audit(number=number + 10, namespace=namespace))
                try:
                    async with asyncio.timeout(0.6):
                        while not (await stream.content.readline()).startswith(b"event: change"):
                            pass
                    heard.append(namespace)
                except TimeoutError:
                    pass
            assert heard == expected, path


async def test_hostile_names_are_text_in_a_real_browser(stand: Stand) -> None:
    hostile = audit(AuditState.REJECTED, 2, image=HOSTILE)
    [image, *_] = hostile.spec.images
    reason = Reason(gate=HOSTILE, trigger=HOSTILE, action=HOSTILE, text=HOSTILE)
    image = msgspec.structs.replace(
        image,
        container=HOSTILE,
        reasons=(reason,),
        policy=HOSTILE,
        bundle=HOSTILE,
        error=HOSTILE,
        verdict=HOSTILE,
    )
    spec = msgspec.structs.replace(
        hostile.spec, images=(image,), user=HOSTILE, release_name=HOSTILE, action=HOSTILE
    )
    summary = msgspec.structs.replace(hostile.status.summary, reason=HOSTILE, result=HOSTILE, images=HOSTILE)
    transition = msgspec.structs.replace(hostile.status.transitions[0], message=HOSTILE)
    status = msgspec.structs.replace(hostile.status, summary=summary, transitions=(transition,))
    hostile = msgspec.structs.replace(hostile, spec=spec, status=status)
    stand.put(hostile)
    async with browser() as found:
        tab = await found.tab()
        await sign_in(tab, stand.url, TOKEN)
        for path in (
            "/",
            "/audits",
            "/releases",
            f"/audits/shop/{hostile.metadata.name}",
            "/audits?q=%22%3E%3Cscript%3Edocument.title%3D%27OWNED%27%3C/script%3E",
            "/trend?namespace=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
        ):
            await tab.go(stand.url + path)
            assert "OWNED" not in await tab.ask("document.title"), path
            assert await tab.ask("document.querySelectorAll('main img, main script').length") == 0, path
            if path != "/trend?namespace=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E" and "q=" not in path:
                assert "onerror" in await tab.text(), path
        assert [each for each in tab.complaints if "Content Security" in each] == [], "nothing even tried"
        await tab.ask(
            "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')"
        )
        await tab.until("true")
        assert await tab.ask("document.title") != "1", "and had it tried, the policy would have held"


async def test_slow_readers_and_half_requests_are_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE_TIMEOUT", 1.0)
    authority = trustme.CA()
    stand = Stand(People({TOKEN: {EVERYWHERE}}))
    async with open_stand(stand, tmp_path, authority):
        port = Port(stand.port, trusting(authority))
        held = [await port.connect() for _ in range(20)]
        for _, writer in held[:10]:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Half")
        async with asyncio.timeout(15):
            ends = await asyncio.gather(*(reader.read() for reader, _ in held))
        for _, writer in held:
            writer.transport.abort()
    assert all(not end or b" 408 " in end or b" 400 " in end for end in ends)
