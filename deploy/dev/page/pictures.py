"""`python -m deploy.dev.page.pictures`: the pictures of the page in docs/images, light and dark, of a made-up cluster."""

import asyncio
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from deploy.dev.browser import BrowserMissingError, Tab, open_browser
from deploy.dev.page import made_up
from deploy.dev.page.stand import EVERYWHERE, People, Stand, open_stand
from deploy.dev.services import ROOT
from shared.crds import AuditState

IMAGES = ROOT / "docs" / "images"
WORKLOADS = 240
COLOURS = 128
SCHEMES = ("light", "dark")


async def take(folder: Path) -> list[Path]:
    """Write the pictures; gives their paths."""
    now = datetime.now(UTC)
    stand = Stand(People({"operator": {EVERYWHERE}}), made_up.trend(now))
    stand.put(*made_up.audits(WORKLOADS, now))
    with tempfile.TemporaryDirectory() as made:
        async with open_stand(stand, Path(made)), open_browser() as browser:
            tab = await browser.tab(1200, 900)
            await sign_in(tab, stand.url, "operator")
            degraded = stand.shelf.records([AuditState.DEGRADED])[0]
            written = []
            for scheme in SCHEMES:
                await tab.prefer(scheme)
                for name, path in {
                    "overview": "/",
                    "audit": f"/audits/{degraded.namespace}/{degraded.name}",
                }.items():
                    await tab.go(stand.url + path)
                    written.append(folder / f"page-{name}-{scheme}.png")
                    await tab.picture(written[-1])
                    squeeze(written[-1])
    return written


async def snap(url: str, token: str, path: Path) -> None:
    """One picture of a page that runs. Raises `BrowserMissingError`: nothing is installed for it."""
    async with open_browser(install=False) as browser:
        tab = await browser.tab(1200, 900)
        await sign_in(tab, url, token)
        await tab.until("!!document.querySelector('.tiles')")
        await tab.picture(path, whole=True)


def squeeze(path: Path) -> None:
    """Half the size: a page has few colours."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


async def sign_in(tab: Tab, url: str, token: str) -> None:
    """By the form, as a person does."""
    await tab.go(f"{url}/sign-in")
    await tab.ask("document.getElementById('token').focus()")
    await tab.type(token)
    tab.leaving()
    await tab.press("Enter")
    await tab.loaded()


def main() -> int:
    """The exit code."""
    try:
        for path in asyncio.run(take(IMAGES)):
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")
    except BrowserMissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
