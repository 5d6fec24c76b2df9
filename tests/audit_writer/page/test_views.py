"""What a URL and a person's rights make of the records: order, filters, pages, counts."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.dev.page import made_up
from deploy.dev.page.stand import seen
from services.audit_writer.page import views
from services.audit_writer.page.records import PROBLEMS, URGENCY, Record, Shelf
from services.audit_writer.page.views import PAGE_SIZE, Query
from shared.crds import AuditState

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def record(number: int = 1, **changes: object) -> Record:
    plain = Record(
        namespace="shop",
        name=f"replicaset-web-{number}",
        release="web",
        is_fake_release=False,
        state=AuditState.ADMITTED,
        images=("registry.example/shop/web:1.2",),
        headline="registry.example/shop/web:1.2",
        result="passed",
        reason="",
        policy="production",
        since=NOW - timedelta(hours=number),
        version="1",
    )
    return msgspec.structs.replace(plain, **changes)


def test_what_is_urgent_comes_first_and_of_these_the_latest() -> None:
    given_ = [
        record(1),
        record(2, state=AuditState.REJECTED),
        record(9, state=AuditState.DEGRADED),
        record(3, state=AuditState.DEGRADED),
        record(1, state=AuditState.UNVERIFIED),
    ]
    shown = views.listing(given_, Query(), None).lines
    assert [(each.state.value, each.name) for each in shown] == [
        ("degraded", "replicaset-web-3"),
        ("degraded", "replicaset-web-9"),
        ("rejected", "replicaset-web-2"),
        ("unverified", "replicaset-web-1"),
        ("admitted", "replicaset-web-1"),
    ]


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("web:1.2", True),
        ("SHOP web", True),
        ("web:1.3", False),
        ("cve-2026-1", True),
        ("production", True),
        ("web nothing", False),
        ("  ", True),
    ],
)
def test_every_word_of_a_search_stands_somewhere(text: str, *, fits: bool) -> None:
    found = views.matching([record(reason="CVE-2026-1 in openssl")], Query.read({"q": text}), None)
    assert bool(found) is fits


def test_filters_leave_out_what_does_not_fit() -> None:
    all_ = [
        record(1),
        record(2, namespace="edge"),
        record(3, release="cart"),
        record(4, state=AuditState.DEGRADED),
    ]
    assert len(views.matching(all_, Query(namespace="edge"), None)) == 1
    assert len(views.matching(all_, Query(release="cart"), None)) == 1
    assert len(views.matching(all_, Query(state="problems"), None)) == 1
    assert len(views.matching(all_, Query(state="admitted"), None)) == 3


def test_nobody_is_shown_a_namespace_that_they_may_not_see() -> None:
    all_ = [record(1), record(2, namespace="edge", state=AuditState.DEGRADED)]
    visible = frozenset({"shop"})
    counts = {"shop": Counter({AuditState.ADMITTED: 1}), "edge": Counter({AuditState.DEGRADED: 1})}
    assert [each.namespace for each in views.listing(all_, Query(), visible).lines] == ["shop"]
    assert [each.namespace for each in views.releases(all_, Query(), visible).lines] == ["shop"]
    first = views.overview(counts, all_[1:], visible)
    assert (first.total, first.problems_total, [each.namespace for each in first.namespaces]) == (
        1,
        0,
        ["shop"],
    )


def test_pages_end_where_the_records_end() -> None:
    all_ = [record(number) for number in range(2 * PAGE_SIZE + 1)]
    last = views.listing(all_, Query(page=3), None)
    assert (len(last.lines), last.page, last.pages, last.total) == (1, 3, 3, 2 * PAGE_SIZE + 1)
    assert views.listing(all_, Query(page=99), None).page == 3
    assert views.listing([], Query(page=2), None).page == 1


def test_releases_are_told_by_their_worst_workload() -> None:
    all_ = [
        record(1),
        record(2, state=AuditState.REJECTED),
        record(3, state=AuditState.DEGRADED),
        record(4, release="ok"),
    ]
    shown = views.releases(all_, Query(), None).lines
    assert [(each.release, each.worst.value, each.total) for each in shown] == [
        ("web", "degraded", 3),
        ("ok", "admitted", 1),
    ]
    assert shown[0].since == NOW - timedelta(hours=3)


def test_the_overview_counts_and_picks() -> None:
    shelf = Shelf()
    for audit in made_up.audits(500, NOW):
        shelf.put(seen(audit))
    first = views.overview(shelf.counts(), shelf.records(PROBLEMS), None)
    assert first.total == 500
    assert first.problems_total == sum(first.counts[state] for state in PROBLEMS)
    assert len(first.problems) == views.FIRST_LOOK
    assert {each.state for each in first.problems} == {AuditState.DEGRADED}
    assert first.namespaces[0].counts[AuditState.DEGRADED] >= first.namespaces[-1].counts[AuditState.DEGRADED]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["q", "state", "namespace", "release", "page", "x"]), st.text(max_size=300)
    )
)
def test_whatever_is_typed_is_a_query_whose_url_says_the_same(typed: dict[str, str]) -> None:
    query = Query.read(typed)
    assert 1 <= query.page < 10**6
    assert set(query.states) <= set(URGENCY)
    href = query.href("/audits")
    assert href.startswith("/audits")
    assert not set('"<>& \n') & set(href.replace("&", "")), href


def test_a_changed_filter_begins_at_the_first_page() -> None:
    query = Query(text="a b", state="degraded", page=3)
    assert query.href("/audits") == "/audits?q=a+b&state=degraded&page=3"
    assert query.href("/audits", state="") == "/audits?q=a+b"
    assert query.href("/audits", page=4) == "/audits?q=a+b&state=degraded&page=4"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (7200, "2 h ago"),
        (86400, "1 day ago"),
        (200_000, "2 days ago"),
    ],
)
def test_ages_are_said_as_people_say_them(seconds: int, said: str) -> None:
    assert views.ago(NOW - timedelta(seconds=seconds), NOW) == said
