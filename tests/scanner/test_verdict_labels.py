"""The hash that a verdict is labelled with: of what was evaluated, where that can be told, and never fresher than it is."""

import asyncio

import pytest

from services.scanner.bundles import hash_of
from shared.errors import Unavailable
from tests.scanner.housekeeping import FakeAnchore, FakeBuckets, Scanner, virtual

LISTED = hash_of({"id": "b"})
EDITED = {"id": "b", "edited": True}


async def made() -> tuple[FakeAnchore, Scanner]:
    anchore = FakeAnchore()
    scanner = Scanner(anchore, FakeBuckets())
    await scanner.bundles.content_hash("b")
    return anchore, scanner


def test_the_listed_content_is_the_label() -> None:
    async def scene() -> None:
        _, scanner = await made()
        label = scanner.bundles.hash_of_evaluated
        assert label("b", None, LISTED) == LISTED
        assert label("b", {}, LISTED) == LISTED
        assert label("b", {"id": "b", "active": True, "last_updated": 1}, LISTED) == LISTED
        assert not scanner.bundles._alarm.is_set()

    virtual(scene())


def test_another_content_counts_only_once_copies_were_seen_to_be_alike() -> None:
    async def scene() -> None:
        _, scanner = await made()
        label = scanner.bundles.hash_of_evaluated
        assert label("b", EDITED, LISTED) == LISTED, "perhaps it is only written otherwise"
        assert scanner.bundles._alarm.is_set(), "or there is something new to be read"
        label("b", {"id": "b"}, LISTED)
        assert label("b", EDITED, LISTED) == hash_of(EDITED)
        assert label("other", EDITED, hash_of({})) == hash_of({}), "each bundle for itself"

    virtual(scene())


def test_an_evaluation_without_its_bundle_shows_no_likeness() -> None:
    async def scene() -> None:
        _, scanner = await made()
        label = scanner.bundles.hash_of_evaluated
        label("b", None, LISTED)
        assert label("b", EDITED, LISTED) == LISTED

    virtual(scene())


def test_a_bundle_that_was_not_listed_has_no_label() -> None:
    async def scene() -> None:
        _, scanner = await made()
        assert await scanner.bundles.content_hash("new") == ""
        assert scanner.bundles.hash_of_evaluated("new", EDITED, "") == ""
        assert scanner.bundles._alarm.is_set()

    virtual(scene())


def test_likeness_is_seen_anew_after_a_change() -> None:
    async def scene() -> None:
        anchore, scanner = await made()
        label = scanner.bundles.hash_of_evaluated
        label("b", {"id": "b"}, LISTED)
        anchore.content = EDITED
        await scanner.bundles._read()
        assert await scanner.bundles.content_hash("b") == hash_of(EDITED)
        assert label("b", {"id": "b"}, hash_of(EDITED)) == hash_of(EDITED)

    virtual(scene())


def test_the_first_scans_read_once() -> None:
    async def scene() -> None:
        anchore = FakeAnchore()
        anchore.seconds = 1.0
        scanner = Scanner(anchore, FakeBuckets())
        found = await asyncio.gather(*(scanner.bundles.content_hash("b") for _ in range(20)))
        assert (set(found), len(anchore.reads)) == ({LISTED}, 1)

    virtual(scene())


def test_nothing_is_asked_of_one_that_is_away() -> None:
    async def scene() -> None:
        anchore = FakeAnchore()
        scanner = Scanner(anchore, FakeBuckets())
        scanner.breaker.open("away")
        with pytest.raises(Unavailable):
            await scanner.bundles.content_hash("b")
        assert anchore.reads == []

    virtual(scene())
