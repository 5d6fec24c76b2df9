"""The connection to an Anchore: what of the environment it heeds."""

import pytest
from aiohttp import web

from deploy.dev.ports import free_port
from shared.anchore import AnchoreSettings, open_session
from shared.settings import Secret

SETTINGS = AnchoreSettings(url="http://anchore.example", username="admin", password=Secret("foobar"))


@pytest.mark.parametrize(("spared", "seen"), [("", ["http://anchore.example/health"]), ("127.0.0.1", [])])
async def test_goes_by_the_proxy_that_the_environment_names(
    spared: str, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_proxy: list[str] = []

    async def pass_on(request: web.BaseRequest) -> web.Response:
        if request.headers["Host"] == "anchore.example":
            by_proxy.append(str(request.url))
        return web.Response(text="{}")

    runner, port = web.ServerRunner(web.Server(pass_on)), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", spared)
    url = f"http://127.0.0.1:{port}" if spared else SETTINGS.url
    async with open_session(SETTINGS) as session, session.get(f"{url}/health") as answer:
        assert answer.status == 200
    await runner.cleanup()
    assert by_proxy == seen
