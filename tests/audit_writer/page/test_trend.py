"""Events by the hour: what counts, for whom, for how long; and the picture of it."""

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit_writer.page import bars, trend
from services.audit_writer.page.trend import HOURS, MAX_NAMESPACES, Course, Hour, Trend
from shared.contracts import Action
from tests.audit_writer.decisions import decision, rejected
from tests.audit_writer.notifications.flips import flip

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


def counted(made: Trend, *courses: Course, now: datetime = NOW, **scope: object) -> tuple[int, ...]:
    totals = trend.total(made.hours(scope.get("visible"), now, str(scope.get("namespace", ""))))  # type: ignore[arg-type]
    return tuple(totals[each] for each in courses)


def test_decisions_and_flips_are_counted_as_they_are_published() -> None:
    made = Trend()
    for event in (
        decision(1),
        rejected(2),
        decision(3, action=Action.DEFERRED, code=429),
        flip(flipped_at=NOW),
    ):
        made.take(msgspec.json.encode(event), NOW)
    made.take(b'{"type": "something else", "namespace": "shop"}', NOW)
    made.take(b"\xff[", NOW)
    assert counted(made, *Course) == (1, 1, 1, 1, 0)


def test_an_hour_is_counted_for_a_week() -> None:
    made = Trend()
    made.add("shop", Course.REJECTED, NOW, NOW)
    for later, shown in ((0, 1), (HOURS - 1, 1), (HOURS, 0)):
        assert counted(made, Course.REJECTED, now=NOW + timedelta(hours=later)) == (shown,)
    made.add("shop", Course.REJECTED, NOW + timedelta(hours=HOURS), NOW + timedelta(hours=HOURS))
    assert counted(made, Course.REJECTED, now=NOW + timedelta(hours=HOURS)) == (1,)


def test_what_is_older_than_a_week_is_passed_over_and_what_is_ahead_counts_now() -> None:
    made = Trend()
    made.add("shop", Course.ALLOWED, NOW, NOW)
    made.add("shop", Course.ALLOWED, NOW - timedelta(hours=HOURS), NOW)
    made.add("shop", Course.ALLOWED, NOW + timedelta(days=900), NOW)
    assert counted(made, Course.ALLOWED) == (2,)
    assert made.hours(None, NOW)[-1].counts[Course.ALLOWED] == 2


def test_who_sees_one_namespace_is_shown_its_numbers_alone() -> None:
    made = Trend()
    for namespace in ("shop", "edge", "edge"):
        made.add(namespace, Course.ALLOWED, NOW, NOW)
    assert counted(made, Course.ALLOWED, visible=frozenset({"shop"})) == (1,)
    assert counted(made, Course.ALLOWED, namespace="edge") == (2,)
    assert counted(made, Course.ALLOWED, visible=frozenset({"shop"}), namespace="edge") == (0,)


def test_namespaces_without_end_take_no_more_memory() -> None:
    made = Trend()
    for number in range(MAX_NAMESPACES + 50):
        made.add(f"n-{number}", Course.ALLOWED, NOW, NOW)
    assert len(made._counts) == MAX_NAMESPACES + 1
    assert counted(made, Course.ALLOWED) == (MAX_NAMESPACES + 50,)
    assert counted(made, Course.ALLOWED, visible=frozenset({"n-0"})) == (1,), (
        "the rest is nobody's in particular"
    )


@settings(deadline=None)  # seconds say nothing on a busy machine
@given(st.lists(st.tuples(st.integers(0, 3 * HOURS), st.sampled_from(Course)), max_size=200))
def test_the_order_of_events_changes_nothing_but_what_is_too_old(told: list[tuple[int, Course]]) -> None:
    straight, back = Trend(), Trend()
    for made, events in ((straight, told), (back, told[::-1])):
        for ago, course in events:
            made.add("shop", course, NOW - timedelta(hours=ago), NOW)
    assert straight.hours(None, NOW) == back.hours(None, NOW)
    expected = sum(ago < HOURS for ago, _ in told)
    assert sum(trend.total(straight.hours(None, NOW))) == expected


def test_days_are_made_of_their_hours() -> None:
    made = Trend()
    made.add("shop", Course.ALLOWED, NOW, NOW)
    made.add("shop", Course.ALLOWED, NOW - timedelta(hours=12), NOW)
    made.add("shop", Course.ALLOWED, NOW - timedelta(hours=13), NOW)
    days = trend.by_day(made.hours(None, NOW))
    assert [each.counts[Course.ALLOWED] for each in days[-2:]] == [1, 2]
    assert days[-1].start == datetime(2026, 11, 23, tzinfo=UTC)


@settings(deadline=None)  # seconds say nothing on a busy machine
@given(st.lists(st.tuples(*[st.integers(0, 10**6)] * 5), min_size=1, max_size=HOURS))
def test_bars_stay_in_their_field_and_whatever_happened_is_seen(numbers: list[tuple[int, ...]]) -> None:
    hours = [Hour(NOW + timedelta(hours=place), each) for place, each in enumerate(numbers)]
    courses = (Course.ALLOWED, Course.REJECTED)
    picture = bars.stacked(hours, courses)
    assert len(picture.bars) == sum(bool(each[course]) for each in numbers for course in courses)
    for bar in picture.bars:
        assert 0 <= bar.x <= bars.WIDTH
        assert 0 <= bar.y <= bars.HEIGHT
        assert bar.height >= bars.LEAST
        assert bar.y + bar.height <= bars.HEIGHT + bars.LEAST
    assert picture.top >= max(each[0] + each[1] for each in numbers)
