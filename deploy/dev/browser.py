"""Debian's Chromium without a screen, spoken to in its own protocol (CDP): for the tests of the page, and its pictures.

The program is taken from PATH; where it is missing, and we are root on a Debian, its package is installed. Where none of
this works `BrowserMissingError` says why, and tests that need it are skipped with that line. No driver and no library
stands between: a page is told to go somewhere, keys are pressed, and what it shows is asked for.

Source: https://chromedevtools.github.io/devtools-protocol/
"""

import asyncio
import base64
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from deploy.dev.binaries import cache_folder
from deploy.dev.processes import Process

NAMES = ("chromium", "chromium-browser", "google-chrome")

INSTALL_WITHIN = 600.0
"""Seconds for the package and all that it needs."""

STEP_WITHIN = 15.0
"""Seconds a page gets for whatever is waited for."""

_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--hide-scrollbars",
    "--ignore-certificate-errors",  # the stack's certificates come from an authority of its own
    "--force-color-profile=srgb",
)
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40}
_MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes: a tall picture comes as one message."""


class BrowserMissingError(RuntimeError):
    """Neither on this machine nor to be had; the text says what to do."""


class PageError(AssertionError):
    """The page did not do what it was told, or did not come to show what was waited for."""


def provide(*, install: bool = True) -> Path:
    """The program, installed if need be and wanted. Raises `BrowserMissingError`."""
    found = _on_path()
    if found is None and not install:
        raise BrowserMissingError("chromium is not on PATH")
    if found is None:
        folder = cache_folder().parent
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "browser.lock").open(
            "w"
        ) as lock:  # other workers of the same session wait, and find it
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = _on_path() or _install()
    return found


def _on_path() -> Path | None:
    return next((Path(found) for name in NAMES if (found := shutil.which(name))), None)


def _install() -> Path:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise BrowserMissingError("chromium is not on PATH: install it (`apt-get install chromium`, as root)")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
    refusal = _run(install)
    if refusal:  # without lists of packages nothing is known
        refusal = _run(["apt-get", "update"]) or _run(install)
    found = _on_path()
    if refusal or found is None:
        raise BrowserMissingError(
            f"chromium is not on PATH, and Debian's package is not to be had: {refusal}"
        )
    return found


def _run(argv: list[str]) -> str:
    """Empty where it went well, else the last line of what it said."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            argv, env=quiet, capture_output=True, text=True, check=False, timeout=INSTALL_WITHIN
        )
    except subprocess.TimeoutExpired:
        return f"{argv[0]} took longer than {INSTALL_WITHIN:.0f} s"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


@asynccontextmanager
async def open_browser(*, install: bool = True) -> AsyncIterator["Browser"]:
    """A browser that has never been anywhere, ended when the context closes. Raises `BrowserMissingError`."""
    program = await asyncio.to_thread(provide, install=install)
    with tempfile.TemporaryDirectory(prefix="moorgate-browser-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        port = folder / "profile" / "DevToolsActivePort"

        async def is_ready() -> bool:
            return port.exists() and len(port.read_text().splitlines()) > 1

        flags = [*_FLAGS, f"--user-data-dir={port.parent}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        process = Process(
            name="chromium",
            argv=[program, *flags, "about:blank"],
            log=folder / "chromium.log",
            ready=is_ready,
            ready_within=60,
        )
        async with process:
            number, path, *_ = port.read_text().splitlines()
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"ws://127.0.0.1:{number}{path}", max_msg_size=_MAX_MESSAGE) as socket,
            ):
                browser = Browser(socket)
                listening = asyncio.create_task(browser.listen())
                try:
                    yield browser
                finally:
                    listening.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await listening


class Browser:
    """One connection; every tab in a context of its own, with cookies of its own."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tabs: dict[str, Tab] = {}

    async def listen(self) -> None:
        """Take answers and events until cancelled."""
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                waiting = self._waiting.pop(told["id"], None)
                if waiting and not waiting.done():
                    waiting.set_result(told)
            elif tab := self._tabs.get(told.get("sessionId", "")):
                tab.note(told["method"], told["params"])

    async def call(self, method: str, session: str = "", **parameters: Any) -> Any:
        """One command. Raises `PageError` where the browser refuses it."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        to = {"sessionId": session} if session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **to})
        told = await asyncio.wait_for(answer, 60)
        if "error" in told:
            raise PageError(f"{method}: {told['error']['message']}")
        return told["result"]

    async def tab(self, width: int = 1280, height: int = 900) -> "Tab":
        """An empty page."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = (await self.call("Target.createTarget", url="about:blank", browserContextId=context))[
            "targetId"
        ]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = self._tabs[session] = Tab(self, session, context)
        for domain in ("Page", "Runtime", "Network", "Log"):
            await tab.call(f"{domain}.enable")
        await tab.resize(width, height)
        return tab


class Tab:
    """One page as somebody at a keyboard has it."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self.complaints: list[str] = []
        """Errors of scripts, refusals of the content security policy, failed requests."""
        self._browser = browser
        self._session = session
        self._context = context
        self._loaded = asyncio.Event()

    def note(self, method: str, told: dict[str, Any]) -> None:
        """An event of the browser."""
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.complaints.append(told["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(told["exceptionDetails"]["text"])
            case _:
                pass

    async def call(self, method: str, **parameters: Any) -> Any:
        """One command for this page."""
        return await self._browser.call(method, self._session, **parameters)

    async def go(self, url: str) -> None:
        """Open a URL and wait until it is loaded."""
        self._loaded.clear()
        answer = await self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise PageError(f"{url}: {answer['errorText']}")
        await self.loaded()

    async def loaded(self) -> None:
        """The load that is under way has ended."""
        await asyncio.wait_for(self._loaded.wait(), STEP_WITHIN)

    def leaving(self) -> None:
        """What comes next leads to another page: `loaded` waits for that."""
        self._loaded.clear()

    async def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript; a promise is waited for. Raises `PageError`."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise PageError(f"{expression[:200]}: {json.dumps(answer['exceptionDetails'])[:500]}")
        return answer["result"].get("value")

    async def until(self, expression: str, seconds: float = STEP_WITHIN) -> Any:
        """The first true value of an expression. Raises `PageError` where there is none in time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            with contextlib.suppress(PageError):  # between two pages there is nothing to ask
                if value := await self.ask(expression):
                    return value
            if asyncio.get_running_loop().time() > deadline:
                text = await self.ask("document.body.innerText")
                raise PageError(f"not within {seconds:g} s: {expression}\n{text[:1500]}")
            await asyncio.sleep(0.1)

    async def text(self) -> str:
        """What people read."""
        return str(await self.ask("document.body.innerText"))

    async def press(self, key: str) -> None:
        """A key that is no letter."""
        code = {"windowsVirtualKeyCode": _KEYS[key], "key": key, "code": key}
        more = {"text": "\r"} if key == "Enter" else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **code, **more)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    async def type(self, text: str) -> None:
        """Into whatever has the focus."""
        await self.call("Input.insertText", text=text)

    async def resize(self, width: int, height: int) -> None:
        """Another window, or a telephone."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def prefer(self, scheme: str) -> None:
        """`light` or `dark`, as the system would say."""
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, or all of the page, as a PNG."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))

    async def close(self) -> None:
        """Forget the page, and its cookies with it."""
        await self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)
