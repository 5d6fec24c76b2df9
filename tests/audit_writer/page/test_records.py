"""What is kept of every Audit, and that it stays bounded."""

import random
from datetime import UTC, datetime

import msgspec
import pytest

from deploy.dev.page import made_up
from deploy.dev.page.stand import seen
from services.audit_writer.page.records import MAX_IMAGES, MAX_TEXT, SeenAudit, Shelf
from shared.crds import NEVER, Audit, AuditState

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def audit(state: AuditState = AuditState.ADMITTED, number: int = 1, namespace: str = "shop") -> Audit:
    return made_up.audit(namespace, "web", state, NOW, random.Random(number))


def test_the_shelf_follows_what_the_watch_tells() -> None:
    shelf, told = Shelf(), []
    end = shelf.listen(lambda namespace, name: told.append((namespace, name)))
    one, other = audit(), audit(AuditState.REJECTED, 2, "edge")
    shelf.put(seen(one))
    shelf.put(seen(other))
    assert {each: dict(counts) for each, counts in shelf.counts().items()} == {
        "shop": {AuditState.ADMITTED: 1},
        "edge": {AuditState.REJECTED: 1},
    }
    turned = msgspec.structs.replace(
        one, status=msgspec.structs.replace(one.status, state=AuditState.DEGRADED)
    )
    shelf.put(seen(turned))
    assert [each.name for each in shelf.records([AuditState.DEGRADED])] == [one.metadata.name]
    assert not shelf.records([AuditState.ADMITTED])
    shelf.remove(seen(turned))
    assert list(shelf.namespaces()) == ["edge"]
    shelf.replace([seen(one)])
    assert len(shelf) == 1
    assert told[-1] == ("", "")
    end()
    shelf.remove(seen(one))
    assert len(told) == 5


def test_a_list_is_taken_page_by_page_and_may_break_off() -> None:
    shelf = Shelf()
    one, two, three = (seen(audit(number=number)) for number in range(3))
    shelf.put(one)
    shelf.begin()
    shelf.add([two])
    assert len(shelf) == 2, "what there was is shown until the list ends"
    shelf.begin()
    shelf.add([three])
    shelf.end()
    assert [each.name for each in shelf.records()] == [three.metadata.name]


def test_a_record_has_what_a_line_shows() -> None:
    shelf, made = Shelf(), audit(AuditState.REJECTED)
    shelf.put(seen(made))
    [record] = shelf.records()
    assert record.key == ("shop", made.metadata.name)
    assert (record.release, record.is_fake_release, record.policy) == ("web", False, "production")
    assert record.images == made.spec.image
    assert "CVE-2026-5535" in record.result
    assert record.since == NOW
    assert shelf.get(*record.key) == record
    assert shelf.get("shop", "another") is None


def test_without_a_decision_the_first_sight_counts() -> None:
    shelf, made = Shelf(), audit(AuditState.OBSERVED)
    mark = msgspec.structs.replace(made.status.decision, at=NEVER, judged_at=NEVER)
    shelf.put(seen(msgspec.structs.replace(made, status=msgspec.structs.replace(made.status, decision=mark))))
    assert shelf.records()[0].since == made.status.last_seen


def test_problems_are_kept_before_what_is_well() -> None:
    shelf = Shelf(limit=3)
    well = [seen(audit(number=number)) for number in range(3)]
    for each in well:
        shelf.put(each)
    shelf.put(seen(audit(AuditState.DEGRADED, 7)))
    assert (len(shelf), shelf.left_out) == (3, 1)
    assert len(shelf.records([AuditState.DEGRADED])) == 1
    shelf.put(seen(audit(number=8)))
    assert (len(shelf), shelf.left_out) == (3, 2)

    shelf.remove(seen(audit(AuditState.DEGRADED, 7)))
    shelf.replace([*well, *(seen(audit(AuditState.REJECTED, number)) for number in range(10, 12))])
    assert (len(shelf.records([AuditState.REJECTED])), len(shelf), shelf.left_out) == (2, 3, 2)


@pytest.mark.parametrize("images", [["x" * 60_000], [f"image:{number}" for number in range(5000)]])
def test_names_without_end_are_cut_while_they_are_read(images: list[str]) -> None:
    raw = msgspec.to_builtins(audit())
    raw["spec"]["image"] = images
    read = msgspec.json.decode(msgspec.json.encode(raw), type=SeenAudit)
    assert len(read.spec.image) <= MAX_IMAGES
    assert all(len(each) <= MAX_TEXT for each in read.spec.image)


def test_the_same_text_is_held_once() -> None:
    shelf = Shelf()
    for number in range(3):
        shelf.put(seen(audit(AuditState.REJECTED, number)))
    assert len({id(each.images[1]) for each in shelf.records()}) == 1
