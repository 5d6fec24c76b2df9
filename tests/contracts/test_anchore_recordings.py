"""Replays what a real Anchore Engine was asked, and compares the simulator's answers: status, shape, and values.

Values that no two engines share are made alike on both sides: times, generated ids, durations, the tail of exception texts.
Lists are compared without order: the real server answers them in its database's. Time is the recorded time: the simulator's
clock is set to each record's. Records that are not replayed are listed with the reason.
"""

import asyncio
import json
import re
from typing import Any

import aiohttp
import pytest

from deploy.dev.anchore.clock import Clock
from deploy.dev.anchore.settings import Settings
from deploy.dev.anchore.simulator import Simulator
from tests.support.interludes import Interlude, interludes
from tests.support.recordings import FOLDER, PASSWORDS, PICKUP, Recording, catalogue, load

ENGINE_CALLS = "the engine posts this to a webhook receiver; webhook records run the other way round"
NO_WEBHOOK = "asks the engine to call a webhook; the simulator has none"
STATIC = "a long static answer that nobody here reads"

NOT_COVERED = {
    19: STATIC,
    20: STATIC,
    313: NO_WEBHOOK,
    314: NO_WEBHOOK,
    315: NO_WEBHOOK,
    316: NO_WEBHOOK,
    321: NO_WEBHOOK,
    334: "the event's id is the recorded engine's own",
}

ENVELOPE_ONLY = {
    **dict.fromkeys((266, 326, 327, 328, 329, 331, 332, 333), "the simulator records fewer kinds of events"),
    98: "the simulator has no real manifest",
}
"""Status, and the types of the outermost fields."""

RECORDINGS = load()

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?")
_EPOCH = 1_500_000_000
_UNLIKE = {"total_time_seconds", "size", "raw_exception_message"}
_UNLIKE_META = {"digest"}


class Answer:
    """What the simulator said to one record."""

    def __init__(self, status: int, content_type: str, body: Any) -> None:
        self.status = status
        self.content_type = content_type
        self.body = body


@pytest.fixture(scope="module")
def answers() -> dict[int, Answer]:
    """All of them, replayed once in order: what comes later depends on what went before."""
    return asyncio.run(_replay())


async def _replay() -> dict[int, Answer]:
    clock = Clock()
    clock.stop_at(RECORDINGS[0].at - 60)
    settings = Settings(
        pickup_seconds=PICKUP,
        parallel_analyses=1,
        feeds_synced=False,
        image_watcher_seconds=0,
        image_gc_seconds=1,
    )
    answers = {}
    waiting = interludes(RECORDINGS)
    async with (
        Simulator(settings, catalogue(RECORDINGS), clock) as simulator,
        aiohttp.ClientSession() as session,
    ):
        for recording in RECORDINGS:
            while waiting and waiting[0].before <= recording.number:
                await _play(simulator, session, waiting.pop(0))
            if not _is_left_out(recording):
                clock.stop_at(max(clock.now(), recording.at))
                answers[recording.number] = await _ask(simulator, session, recording)
    return answers


async def _play(simulator: Simulator, session: aiohttp.ClientSession, interlude: Interlude) -> None:
    if interlude.at is not None:
        simulator.engine.clock.stop_at(max(simulator.engine.clock.now(), _moment(interlude.at)))
    if interlude.change is not None:
        interlude.change(simulator, RECORDINGS)
        return
    headers = {"authorization": aiohttp.encode_basic_auth(interlude.user, PASSWORDS[interlude.user])}
    url = simulator.url + interlude.path
    async with session.request(
        interlude.method, url, params=interlude.query, json=interlude.body, headers=headers
    ) as response:
        assert response.status == 200, (interlude, await response.text())


def _moment(text: str) -> float:
    return Recording(name="", request={}, response={}, meta={"at": text}).at


async def _ask(simulator: Simulator, session: aiohttp.ClientSession, recording: Recording) -> Answer:
    request = recording.request
    headers = {name: value for name, value in request["headers"].items() if name != "authorization"}
    if recording.user is not None:
        password = "wrong" if recording.name == "images-bad-password" else PASSWORDS[recording.user]
        headers["authorization"] = aiohttp.encode_basic_auth(recording.user, password)
    body = request["body"]
    data = body if isinstance(body, str) or body is None else json.dumps(body)
    url = simulator.url + request["path"]
    async with session.request(
        request["method"], url, params=request["query"], headers=headers, data=data
    ) as response:
        assert response.headers["Server"] == "moorgate-anchore-simulator"
        text = await response.text()
        is_json = "json" in response.content_type
        return Answer(
            response.status, response.headers.get("Content-Type", ""), json.loads(text) if is_json else text
        )


def _is_left_out(recording: Recording) -> bool:
    return recording.is_from_engine or recording.number in NOT_COVERED


def _alike(value: Any, key: str = "") -> Any:
    """The value with all that differs from engine to engine made the same."""
    if isinstance(value, dict):
        is_meta = "archiveId" in value
        kept = {name: _alike(inner, name) for name, inner in value.items()}
        return kept | {name: "*" for name in _UNLIKE_META if is_meta}
    if isinstance(value, list):
        return sorted((_alike(inner) for inner in value), key=lambda inner: json.dumps(inner, sort_keys=True))
    if key in _UNLIKE:
        return type(value).__name__
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return "epoch" if value > _EPOCH else value
    return _TIME.sub("<time>", value).partition(" - exception: ")[0]


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: type(inner).__name__ for name, inner in value.items()}
    return type(value).__name__


def _cases() -> list[Any]:
    cases = []
    for recording in RECORDINGS:
        reason = ENGINE_CALLS if recording.is_from_engine else NOT_COVERED.get(recording.number)
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        cases.append(pytest.param(recording, id=recording.label, marks=marks))
    return cases


@pytest.mark.skipif(not RECORDINGS, reason=f"no recordings of a real Anchore Engine at {FOLDER}")
@pytest.mark.parametrize("recording", _cases())
def test_answers_as_the_real_engine_did(recording: Recording, answers: dict[int, Answer]) -> None:
    answer, recorded = answers[recording.number], recording.response
    assert answer.status == recorded["status"], answer.body
    expected_type = recorded["headers"].get("content-type", "").partition(";")[0]
    if answer.status != 204:
        assert answer.content_type.partition(";")[0] == expected_type
    if recording.number in ENVELOPE_ONLY:
        assert _shape(answer.body) == _shape(recorded["body"])
    else:
        assert _alike(answer.body) == _alike(recorded["body"])
