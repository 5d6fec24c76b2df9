"""The page in a real browser: for who sees, who does not, who has only a keyboard, by day and by night."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.dev.browser import Browser, Tab
from deploy.dev.page import made_up
from deploy.dev.page.pictures import sign_in
from deploy.dev.page.stand import EVERYWHERE, People, Stand, open_stand
from services.audit_writer.page import live
from shared.crds import AuditState
from tests.support.browser import barriers, browser

NOW = datetime.now(UTC)


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(People({"operator": {EVERYWHERE}, "nobody": set()}), made_up.trend(NOW))
    made.put(*made_up.audits(300, NOW))
    async with open_stand(made, tmp_path):
        yield made


@pytest.fixture
async def found(stand: Stand) -> AsyncIterator[Browser]:
    assert stand.port
    async with browser() as made:
        yield made


@pytest.fixture
async def tab(found: Browser, stand: Stand) -> Tab:
    made = await found.tab()
    await sign_in(made, stand.url, "operator")
    return made


def views(stand: Stand) -> list[str]:
    record = stand.shelf.records([AuditState.DEGRADED])[0]
    return [
        "/",
        "/audits",
        "/audits?q=nothing-like-that",
        "/releases",
        "/trend",
        f"/audits/{record.namespace}/{record.name}",
        "/nowhere",
    ]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_keeps_people_out(stand: Stand, tab: Tab, found: Browser, scheme: str) -> None:
    """By axe-core: names, roles, headings, tables, contrast."""
    await tab.prefer(scheme)
    for width in (1280, 390):
        await tab.resize(width, 900)
        for path in views(stand):
            await tab.go(stand.url + path)
            assert await barriers(tab) == [], (path, scheme, width)
    stranger = await found.tab()
    await stranger.prefer(scheme)
    await stranger.go(stand.url)
    assert await barriers(stranger) == []


async def test_the_check_itself_finds_what_is_wrong(tab: Tab) -> None:
    await tab.ask(
        "document.querySelector('h1').style.color = '#ccc'; document.querySelector('caption').closest('table').innerHTML = '<tr><td><a href=\"/\"></a>'"
    )
    assert {each.split(":")[0] for each in await barriers(tab)} >= {"link-name"}


async def test_narrow_or_wide_nothing_is_cut_off(stand: Stand, tab: Tab) -> None:
    for width in (320, 390, 800, 1600):
        await tab.resize(width, 900)
        for path in views(stand):
            await tab.go(stand.url + path)
            assert await tab.ask("document.documentElement.scrollWidth <= innerWidth"), (path, width)


async def test_night_is_dark_and_day_is_light(stand: Stand, tab: Tab) -> None:
    def brightness(colour: str) -> int:
        return sum(int(each) for each in colour.removeprefix("rgb(").rstrip(")").split(","))

    seen = {}
    for scheme in ("light", "dark"):
        await tab.prefer(scheme)
        await tab.go(stand.url)
        ground = await tab.ask("getComputedStyle(document.documentElement).backgroundColor")
        text = await tab.ask("getComputedStyle(document.documentElement).color")
        seen[scheme] = (brightness(ground), brightness(text))
    assert seen["light"][0] > seen["light"][1] + 300
    assert seen["dark"][1] > seen["dark"][0] + 300


async def test_a_keyboard_is_enough(stand: Stand, tab: Tab) -> None:
    """Skip the head, reach the first workload, open it; the focus is always seen."""
    await tab.go(f"{stand.url}/")
    await tab.press("Tab")
    assert await tab.ask("document.activeElement.textContent") == "Skip to the content"
    assert await tab.ask("document.activeElement.getBoundingClientRect().left >= 0"), "it shows itself"
    await tab.press("Enter")
    await tab.until("document.activeElement.id === 'main'")
    for _ in range(30):
        await tab.press("Tab")
        width = await tab.ask("getComputedStyle(document.activeElement).outlineWidth")
        assert width == "3px", await tab.ask("document.activeElement.outerHTML")
        if await tab.ask("!!document.activeElement.closest('tbody th')"):
            break
    else:
        pytest.fail("no workload was reached")
    name = await tab.ask("document.activeElement.textContent")
    tab.leaving()
    await tab.press("Enter")
    await tab.loaded()
    assert await tab.ask("document.querySelector('h1').textContent") == name


async def test_a_change_appears_and_disturbs_nobody(
    stand: Stand, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LEAST_PAUSE", 0.2)
    await tab.go(f"{stand.url}/")
    await tab.until("document.getElementById('live').dataset.state === 'live'")
    await tab.ask("window.unchanged = true; document.querySelectorAll('tbody th a')[2].focus()")
    focused = await tab.ask("document.activeElement.textContent")
    before = await tab.ask("+document.querySelector('.tile.degraded .count').textContent")
    stand.put(made_up.audit("shop", "fresh", AuditState.DEGRADED, NOW, random.Random(99)))
    await tab.until(f"+document.querySelector('.tile.degraded .count').textContent === {before + 1}")
    assert await tab.ask("window.unchanged"), "it was not loaded again"
    assert await tab.ask("document.activeElement.textContent") == focused, "who was there is still there"
    assert f"{before + 1} degraded" in await tab.ask("document.getElementById('news').textContent"), (
        "and is told"
    )
    assert tab.complaints == []


async def test_typing_is_not_interrupted(stand: Stand, tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LEAST_PAUSE", 0.2)
    await tab.go(f"{stand.url}/audits?state=degraded")
    await tab.until("document.getElementById('live').dataset.state === 'live'")
    await tab.ask("document.getElementById('q').focus()")
    await tab.type("half a wor")
    count = "document.querySelectorAll('tbody tr').length"
    before = await tab.ask(count)
    stand.put(made_up.audit("shop", "fresh", AuditState.DEGRADED, NOW, random.Random(99)))
    await tab.until("performance.getEntriesByType('resource').length > 0")
    assert await tab.ask("document.getElementById('q').value") == "half a wor"
    await tab.ask("document.activeElement.blur()")
    await tab.until(f"{count} === {before + 1}")


async def test_who_may_no_longer_is_shown_the_form(
    stand: Stand, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_EVERY", 0.2)
    monkeypatch.setattr("services.audit_writer.page.access.REMEMBERED", 0.0)
    await tab.go(f"{stand.url}/")
    await tab.until("document.getElementById('live').dataset.state === 'live'")
    del stand.people.rights["operator"]
    await tab.until("document.querySelector('h1').textContent === 'Sign in'", 40)


async def test_without_scripts_it_works_as_well(stand: Stand, tab: Tab) -> None:
    await tab.call("Emulation.setScriptExecutionDisabled", value=True)
    await tab.go(f"{stand.url}/audits?state=rejected&q=shop")
    root = (await tab.call("DOM.getDocument", depth=1))["root"]["nodeId"]
    html = (await tab.call("DOM.getOuterHTML", nodeId=root))["outerHTML"]
    assert "As of " in html
    assert html.count('class="state rejected"') >= 1
    assert 'class="state degraded"' not in html
    await asyncio.sleep(0)
