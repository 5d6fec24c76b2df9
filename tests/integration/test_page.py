"""The page of the real audit-writer: a real API server's tokens and rights, real NATS, and a real browser before it."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme

from deploy.dev.controlplane import ControlPlane
from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from services.audit_writer.page.attempts import BURST, EVERY
from shared.broker import Broker
from shared.contracts import Outcome
from tests.audit_writer.decisions import image
from tests.audit_writer.service import connected, eventually, now_decided, now_rejected, publish, running
from tests.support.browser import browser
from tests.support.kube import Kubectl

HTML = {"Accept": "text/html"}
EVERYWHERE = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: moorgate-test-audits}
rules: [{apiGroups: [security.banzaicloud.com], resources: [audits], verbs: [list]}]
"""


class Page:
    """The running page, and who asks it."""

    def __init__(self, url: str, session: aiohttp.ClientSession, kubectl: Kubectl, broker: Broker) -> None:
        self.url = url
        self.kubectl = kubectl
        self.broker = broker
        self._session = session

    async def get(self, path: str, token: str = "", **headers: str) -> tuple[int, str]:
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with self._session.get(
            self.url + path, headers={**HTML, **headers}, ssl=False, allow_redirects=False
        ) as answer:
            return answer.status, await answer.text()

    async def account(self, name: str, *, everywhere: bool = False, here: bool = False) -> str:
        """A ServiceAccount in the test's namespace, with these rights; gives a token of its."""
        await self.kubectl.ok("create", "serviceaccount", name)
        full = f"{self.kubectl.namespace}:{name}"
        if everywhere:
            await self.kubectl.apply_text(EVERYWHERE)
            await self.kubectl.ok(
                "create", "clusterrolebinding", f"{self.kubectl.namespace}-{name}",
                "--clusterrole=moorgate-test-audits", f"--serviceaccount={full}",
            )  # fmt: skip
        if here:
            await self.kubectl.ok(
                "create", "role", name, "--verb=list", "--resource=audits.security.banzaicloud.com"
            )
            await self.kubectl.ok("create", "rolebinding", name, f"--role={name}", f"--serviceaccount={full}")
        return await self.token(name)

    async def token(self, name: str) -> str:
        return (await self.kubectl.ok("create", "token", name)).strip()

    async def shows(self, token: str, text: str, path: str = "/audits") -> str:
        """The view, once it shows the text."""

        async def look() -> str:
            _, html = await self.get(path, token)
            return html if text in html else ""

        return str(await eventually(f"{path} shows {text}", look))


@pytest.fixture
async def page(
    control_plane: ControlPlane,
    kubectl: Kubectl,
    nats_server: NatsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Page]:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig()))
    async with (
        connected(nats_server) as broker,
        serving(nats_server, tmp_path) as url,
        aiohttp.ClientSession() as session,
    ):
        yield Page(url, session, kubectl, broker)


@asynccontextmanager
async def serving(nats_server: NatsServer, folder: Path) -> AsyncIterator[str]:
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "page.key")
    issued.cert_chain_pems[0].write_to_path(folder / "page.crt")
    port = free_port()
    settings = {
        "MOORGATE_PAGE_LISTEN": f"127.0.0.1:{port}",
        "MOORGATE_PAGE_CERT_FILE": str(folder / "page.crt"),
        "MOORGATE_PAGE_KEY_FILE": str(folder / "page.key"),
    }
    async with running(nats_server, **settings):

        async def answers() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(f"https://127.0.0.1:{port}/sign-in", ssl=False) as answer,
                ):
                    return answer.status == 200
            return False

        await eventually("the page answers", answers)
        yield f"https://127.0.0.1:{port}"


async def test_everybody_sees_what_they_may_list(page: Page) -> None:
    """Everywhere, in one namespace, nowhere, with no token that anybody knows."""
    here, other = page.kubectl.namespace, f"other-{secrets.token_hex(3)}"
    await page.kubectl.ok("create", "namespace", other)
    everywhere = await page.account("everywhere", everywhere=True)
    one, nobody = await page.account("one", here=True), await page.account("nobody")
    await publish(
        page.broker,
        now_rejected(page.kubectl, 1, pod_name="web-here", release="here"),
        now_decided(page.kubectl, 2, namespace=other, pod_name="web-there", release="there", owner=None),
        now_rejected(page.kubectl, 3, namespace=other, pod_name="web-there-2", release="there-2"),
    )
    await page.shows(everywhere, "pod-web-there-2")
    html = await page.shows(everywhere, "pod-web-here")
    assert other in html

    html = await page.shows(one, "pod-web-here")
    assert other not in html, "not even the name of a namespace"
    assert "pod-web-there" not in html
    assert (await page.get(f"/audits/{here}/pod-web-here", one))[0] == 200
    status, html = await page.get(f"/audits/{other}/pod-web-there-2", one)
    assert (status, "may not list Audits in namespace" in html) == (403, True)
    assert (await page.get(f"/live?namespace={other}", one))[0] == 403
    _, trend = await page.get("/trend", one)
    assert other not in trend

    status, html = await page.get("/", nobody)
    assert (status, "may list Audits in no namespace" in html) == (403, True)
    for wrong in ("", "x.y.z", everywhere[:-6] + "AAAAAA"):
        status, html = await page.get("/", wrong)
        assert (status, "Sign in" in html) == (401, True), wrong
    await page.kubectl.ok("delete", "namespace", other, "--wait=false")


async def test_a_right_that_is_taken_away_ends_the_view_and_its_stream(page: Page) -> None:
    token = await page.account("leaver", here=True)
    await publish(page.broker, now_rejected(page.kubectl, 1, pod_name="web-here"))
    await page.shows(token, "pod-web-here")
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{page.url}/live", headers=headers, ssl=False) as stream,
    ):
        assert stream.status == 200
        await page.kubectl.ok("delete", "rolebinding", "leaver")
        async with asyncio.timeout(40):
            text = (await stream.read()).decode()
    assert "event: over" in text
    assert (await page.get("/", token))[0] == 403


async def test_a_token_whose_account_is_gone_is_nobodys(page: Page) -> None:
    token = await page.account("goner", here=True)
    await publish(page.broker, now_rejected(page.kubectl, 1, pod_name="web-here"))
    await page.shows(token, "pod-web-here")
    await page.kubectl.ok("delete", "serviceaccount", "goner")

    async def is_out() -> bool:
        return (await page.get("/", token))[0] == 401

    await eventually("the token is refused", is_out)


@pytest.mark.timeout(240)
async def test_a_person_signs_in_and_sees_what_happens(page: Page) -> None:
    """In a real browser: the form, a rejected Pod, a search, a change without a reload, signing out."""
    token = await page.account("person", here=True)
    failing = image("registry.example/bad/shop:1.0", Outcome.FAIL)
    await publish(
        page.broker, now_rejected(page.kubectl, 1, pod_name="shop", release="shop", images=(failing,))
    )
    await page.shows(token, "pod-shop")
    async with browser() as found:
        tab = await found.tab()
        await tab.go(f"{page.url}/audits?state=rejected")
        assert "Sign in" in await tab.text()
        await tab.ask("document.getElementById('token').focus()")
        await tab.type(token)
        tab.leaving()
        await tab.press("Enter")
        await tab.loaded()
        assert await tab.ask("location.pathname + location.search") == "/audits?state=rejected"
        assert token not in await tab.ask(
            "location.href + document.documentElement.outerHTML + document.cookie"
        )

        tab.leaving()
        await tab.ask("document.querySelector('tbody a').click()")
        await tab.loaded()
        shown = await tab.text()
        for each in (
            "rejected",
            "registry.example/bad/shop:1.0",
            "CVE-2026-0001 in openssl",
            "moorgate whitelist add shop",
        ):
            assert each in shown, each

        await tab.go(f"{page.url}/audits?q=cve-2026-0001")
        assert "pod-shop" in await tab.text()
        await tab.go(f"{page.url}/audits?q=nothing-like-that")
        assert "No Audit fits" in await tab.text()

        await tab.go(f"{page.url}/")
        await tab.ask("window.unchanged = true")
        await tab.until("document.getElementById('live').dataset.state === 'live'")
        await publish(page.broker, now_rejected(page.kubectl, 2, pod_name="late", release="late"))
        await tab.until("document.body.innerText.includes('pod-late')", 30)
        assert await tab.ask("window.unchanged"), "it was not loaded again"
        await tab.until("document.getElementById('news').textContent.includes('2 rejected')")

        await tab.go(f"{page.url}/trend")
        assert "2" in await tab.ask("document.querySelector('tbody tr td:nth-of-type(2)').innerText")

        tab.leaving()
        await tab.ask("document.querySelector('.who button').click()")
        await tab.loaded()
        await tab.go(f"{page.url}/")
        assert "Sign in" in await tab.text()


async def test_signing_in_is_limited(page: Page) -> None:
    """Made-up tokens of one address reach the API server ten times, and then once in two seconds."""
    began = time.monotonic()
    answers = [(await page.get("/", f"made.up.{number}"))[0] for number in range(40)]
    assert answers[:BURST] == [401] * BURST
    assert set(answers) == {401, 429}
    assert answers.count(401) <= BURST + 1 + (time.monotonic() - began) / EVERY
