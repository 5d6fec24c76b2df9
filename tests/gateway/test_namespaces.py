"""Labels of namespaces: from the watch, or read once for all that ask, or not to be had."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from services.gateway import namespaces
from services.gateway.namespaces import NAME_LABEL, READS, Namespace, Namespaces
from shared.cluster import Cluster
from shared.errors import Unavailable
from shared.objects import ObjectMeta


class Answers:
    """An API server that is asked for one namespace at a time."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.may_answer = asyncio.Event()
        self.labels: dict[str, dict[str, str]] = {}
        self.is_away = False

    async def get(self, path: str, decoder: "msgspec.json.Decoder[Any]", *, timeout: float) -> Any:  # noqa: ASYNC109  as it is called
        assert timeout == namespaces.READ_TIMEOUT
        name = path.rpartition("/")[2]
        self.asked.append(name)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await self.may_answer.wait()
        finally:
            self.at_once -= 1
        if self.is_away:
            raise Unavailable("cluster", "away")
        if name not in self.labels:
            return None
        body = {"metadata": {"name": name, "labels": self.labels[name]}}
        return decoder.decode(msgspec.json.encode(body))


@pytest.fixture
def server() -> Answers:
    return Answers()


@pytest.fixture
def known(server: Answers) -> Namespaces:
    return Namespaces(cast("Cluster", server))


def named(name: str, **labels: str) -> Namespace:
    return Namespace(metadata=ObjectMeta(name=name, labels=labels))


async def test_what_the_watch_has_seen_is_not_asked_for(known: Namespaces, server: Answers) -> None:
    known.replace([named("shop", tier="prod")])
    assert await known.labels("shop", 1) == {"tier": "prod", NAME_LABEL: "shop"}
    known.put(named("shop", tier="dev"))
    assert await known.labels("shop", 0) == {"tier": "dev", NAME_LABEL: "shop"}
    assert server.asked == []


async def test_one_read_serves_all_that_ask(known: Namespaces, server: Answers) -> None:
    server.labels = {"new": {"tier": "prod"}}
    asking = [asyncio.create_task(known.labels("new", 1)) for _ in range(200)]
    await asyncio.sleep(0)
    server.may_answer.set()
    assert {tuple((await each or {}).items()) for each in asking} == {(("tier", "prod"), (NAME_LABEL, "new"))}
    assert server.asked == ["new"]
    await known.labels("new", 1)
    assert server.asked == ["new"], "once read it is known"


async def test_what_cannot_be_had_in_time_is_not_known(known: Namespaces, server: Answers) -> None:
    assert await known.labels("slow", 0.01) is None
    assert server.asked == ["slow"]
    server.labels = {"slow": {}}
    server.may_answer.set()
    assert await known.labels("slow", 1) == {NAME_LABEL: "slow"}


async def test_no_time_at_all_waits_for_nothing(known: Namespaces) -> None:
    assert await known.labels("new", 0) is None


async def test_no_answer_is_not_remembered(known: Namespaces, server: Answers) -> None:
    server.may_answer.set()
    server.is_away = True
    assert await known.labels("new", 1) is None
    server.is_away = False
    assert await known.labels("new", 1) is None, "nobody knows it"
    server.labels = {"new": {}}
    assert await known.labels("new", 1) == {NAME_LABEL: "new"}


async def test_one_that_gives_up_takes_no_other_along(known: Namespaces, server: Answers) -> None:
    server.labels = {"new": {}}
    patient = asyncio.create_task(known.labels("new", 1))
    gone = asyncio.create_task(known.labels("new", 1))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    server.may_answer.set()
    assert await patient == {NAME_LABEL: "new"}


async def test_a_flood_of_namespaces_is_no_flood_of_requests(known: Namespaces, server: Answers) -> None:
    server.labels = {f"n{number}": {} for number in range(3 * READS)}
    asking = [asyncio.create_task(known.labels(name, 1)) for name in server.labels]
    while server.at_once < READS:
        await asyncio.sleep(0)
    server.may_answer.set()
    assert all([await each for each in asking])
    assert server.most_at_once == READS


async def test_the_watch_wins_over_a_read(known: Namespaces, server: Answers) -> None:
    server.labels = {"new": {"tier": "old"}}
    asking = asyncio.create_task(known.labels("new", 1))
    await asyncio.sleep(0)
    known.put(named("new", tier="prod"))
    server.may_answer.set()
    assert await asking == {"tier": "prod", NAME_LABEL: "new"}


async def test_a_removed_one_is_asked_for_again(known: Namespaces, server: Answers) -> None:
    server.may_answer.set()
    known.put(named("shop"))
    known.remove(named("shop"))
    assert await known.labels("shop", 1) is None
    assert server.asked == ["shop"]
