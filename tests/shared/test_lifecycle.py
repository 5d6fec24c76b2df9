"""A process from start to exit code; readiness that is never lost."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from shared import lifecycle
from shared.errors import BadSetting, Unavailable
from shared.lifecycle import background
from shared.probes import Readiness, serve_probes
from shared.settings import Listen

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, sys
from shared import lifecycle
from shared.errors import BadSetting, Unavailable

async def main(stop):
    print("started", flush=True)
    {body}

sys.exit(lifecycle.run(main))
"""


def start(body: str) -> "subprocess.Popen[str]":
    program = PROGRAM.format(body=textwrap.indent(textwrap.dedent(body).strip(), "    ").strip())
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_service_to_stop_and_it_ends_in_its_own_order(number: signal.Signals) -> None:
    child = start('await stop.wait(); print("drained", flush=True)')
    child.send_signal(number)
    out, err = child.communicate(timeout=10)
    assert (child.returncode, out, err) == (0, "drained\n", "")


def test_a_second_signal_ends_a_stop_that_hangs() -> None:
    child = start('await stop.wait(); print("stopping", flush=True); await asyncio.sleep(60)')
    child.terminate()
    assert child.stdout is not None
    assert child.stdout.readline() == "stopping\n"
    child.terminate()
    assert child.wait(10) == lifecycle.EXIT_FAILED
    child.communicate()


def test_a_stop_is_bounded() -> None:
    child = start("lifecycle.HARD_LIMIT = 0.1; await stop.wait(); await asyncio.sleep(60)")
    child.terminate()
    assert child.wait(10) == lifecycle.EXIT_FAILED
    child.communicate()


async def fail(error: Exception) -> None:
    raise error


def test_what_ends_a_service_becomes_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert lifecycle.run(lambda _: fail(BadSetting("MOORGATE_X\nis missing"))) == 2
    assert capsys.readouterr().err == "moorgate: MOORGATE_X is missing\n"
    assert lifecycle.run(lambda _: fail(Unavailable("nats", "gone"))) == 1
    assert lifecycle.run(lambda _: fail(OSError("address in use"))) == 1
    assert lifecycle.run(lambda _: fail(ExceptionGroup("many", [ValueError("x")]))) == 1
    assert lifecycle.run(lambda _: asyncio.sleep(0)) == 0


def test_a_bad_setting_behind_background_work_is_still_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(_: asyncio.Event) -> None:
        async with background(asyncio.sleep(60)):
            raise BadSetting("MOORGATE_X is missing")

    assert lifecycle.run(main) == 2
    assert capsys.readouterr().err == "moorgate: MOORGATE_X is missing\n"


@pytest.mark.parametrize("service", ["gateway", "scanner", "audit_writer"])
def test_a_service_with_a_bad_setting_says_so_in_one_line(service: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MOORGATE_")}
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        cwd=ROOT,
        env={**environment, "MOORGATE_LOG_LEVELS": "debug"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr
        == "moorgate: MOORGATE_LOG_LEVELS is no setting of Moorgate: remove it or correct its name\n"
    )


async def test_background_work_ends_with_the_body() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with background(work()):
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_background_work_ends_although_it_swallows_a_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the `wait_for` of Python 3.11 does, on which NATS' client stands."""
    monkeypatch.setattr(lifecycle, "CANCEL_AGAIN", 0.01)
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed == 2:
                    raise
                swallowed += 1

    async with asyncio.timeout(5), background(work()):
        await asyncio.sleep(0)
    assert swallowed == 2


async def test_work_within_work_ends_although_the_innermost_swallows_a_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who is told twice from outside tells the innermost again as well."""
    monkeypatch.setattr(lifecycle, "CANCEL_AGAIN", 0.01)
    begun, swallowed = asyncio.Event(), 0

    async def innermost() -> None:
        nonlocal swallowed
        while True:
            try:
                begun.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed == 2:
                    raise
                swallowed += 1

    async def between() -> None:
        async with background(innermost()):
            await asyncio.Event().wait()

    async with asyncio.timeout(5), background(between()):
        await begun.wait()
    assert swallowed == 2


async def test_who_is_cancelled_while_work_ends_is_cancelled() -> None:
    ending, end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            with suppress(asyncio.CancelledError):  # as who cannot be hurried
                await end.wait()

    async def body() -> None:
        async with background(work()):
            await asyncio.sleep(0)

    task = asyncio.create_task(body())
    await ending.wait()
    task.cancel()
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_fails_in_the_background_ends_the_body() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with background(fail(ValueError("x"))):
            await asyncio.Event().wait()
    assert caught.group_contains(ValueError, match="x")


def test_readiness_is_latched_until_the_stop() -> None:
    readiness = Readiness("nats", "whitelist")
    assert (readiness.is_ready, str(readiness)) == (False, "waiting for nats, whitelist")
    readiness.done("nats")
    readiness.done("nats")
    readiness.done("unheard of")
    assert (readiness.is_ready, str(readiness)) == (False, "waiting for whitelist")
    readiness.done("whitelist")
    assert (readiness.is_ready, str(readiness)) == (True, "ready")
    readiness.stop()
    readiness.done("whitelist")
    assert (readiness.is_ready, str(readiness)) == (False, "stopping")


async def test_the_plain_port_serves_three_paths_and_nothing_else() -> None:
    registry, readiness = CollectorRegistry(), Readiness("nats")
    Counter("tests", "Tests run.", registry=registry).inc()
    async with (
        serve_probes(Listen("127.0.0.1", 0), registry, readiness) as address,
        aiohttp.ClientSession(f"http://127.0.0.1:{address.port}") as session,
    ):

        async def get(path: str, method: str = "GET") -> tuple[int, str]:
            async with session.request(method, path) as response:
                return response.status, await response.text()

        assert await get("/healthz") == (200, "ok\n")
        assert await get("/readyz") == (503, "waiting for nats\n")
        readiness.done("nats")
        assert await get("/readyz") == (200, "ready\n")
        readiness.stop()
        assert await get("/readyz") == (503, "stopping\n")
        assert await get("/healthz") == (200, "ok\n")
        status, text = await get("/metrics")
        assert status == 200
        assert "tests_total 1.0" in text
        for path in ("/", "/imagecheck", "/debug", "/metrics/x"):
            assert (await get(path))[0] == 404
        assert (await get("/metrics", "POST"))[0] == 405
