"""What was folded without a write is remembered within bounds."""

from services.audit_writer.audit import Standing, audit_of
from services.audit_writer.unwritten import Unwritten
from tests.audit_writer.decisions import decision

STATE = audit_of(decision(), Standing(name="pod-web"))


def test_it_is_kept_by_uid_until_it_is_forgotten() -> None:
    unwritten = Unwritten()
    unwritten.keep("one", STATE)
    assert unwritten.recall("one") == STATE
    assert unwritten.recall("other") is None
    unwritten.forget("one")
    unwritten.forget("one")
    assert unwritten.recall("one") is None


def test_what_has_no_uid_is_not_kept() -> None:
    unwritten = Unwritten()
    unwritten.keep(None, STATE)
    assert len(unwritten) == 0
    assert unwritten.recall(None) is None


def test_what_was_not_touched_for_longest_gives_way() -> None:
    unwritten = Unwritten(max_bytes=4000)
    for number in range(100):
        unwritten.keep(f"uid-{number}", STATE)
        unwritten.keep("often", STATE)
    assert 1 < len(unwritten) < 5
    assert unwritten.recall("often") == STATE
    assert unwritten.recall("uid-0") is None
    for number in range(100):
        unwritten.forget(f"uid-{number}")
    unwritten.forget("often")
    unwritten.keep("one", STATE)
    assert len(unwritten) == 1
