"""From records to what a page shows: filters, order, pages, counts. Pure: values in, values out.

Every view is a function of its URL's query, of what the person may see, and of the time. Names and reasons are strangers'
texts: nothing here makes markup of them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import urlencode

import msgspec

from services.audit_writer.page.records import PROBLEMS, URGENCY, Record
from shared.crds import AuditState

PAGE_SIZE = 50
"""Lines of a table."""

FIRST_LOOK = 8
"""Problems, namespaces on the overview: what fits on a screen."""

MAX_TEXT = 200
"""Characters of a filter."""

PROBLEMS_WORD = "problems"
"""In place of a state: all that ask for somebody."""

Visible = frozenset[str] | None
"""The namespaces that somebody may see; None: all."""

_URGENCY = {state: place for place, state in enumerate(URGENCY)}
_WORDS = {state.value: (state,) for state in URGENCY} | {PROBLEMS_WORD: PROBLEMS, "": URGENCY}
_PAGE = re.compile(r"[0-9]{1,6}", re.ASCII)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What a view's URL says; all of it may be left out."""

    text: str = ""
    state: str = ""
    """One state, `problems`, or empty: all."""
    namespace: str = ""
    release: str = ""
    page: int = 1

    @classmethod
    def read(cls, given: Mapping[str, str]) -> "Query":
        """Whatever somebody has typed: what makes no sense counts as left out."""
        page, state = given.get("page", ""), given.get("state", "")
        return cls(
            text=_typed(given.get("q", "")),
            state=state if state in _WORDS else "",
            namespace=_typed(given.get("namespace", "")),
            release=_typed(given.get("release", "")),
            page=max(1, int(page)) if _PAGE.fullmatch(page) else 1,
        )

    @property
    def states(self) -> tuple[AuditState, ...]:
        """Those that are asked for."""
        return _WORDS[self.state]

    @property
    def is_narrow(self) -> bool:
        """Whether anything is left out by it."""
        return bool(self.text or self.state or self.namespace or self.release)

    def href(self, path: str, **changes: str | int) -> str:
        """This view's URL with some of it changed; another filter begins at the first page."""
        named = {
            "q": self.text,
            "state": self.state,
            "namespace": self.namespace,
            "release": self.release,
            "page": 1 if changes else self.page,
        } | changes
        kept = {name: value for name, value in named.items() if value and (name, value) != ("page", 1)}
        return f"{path}?{urlencode(kept)}" if kept else path


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a table."""

    lines: tuple[Record, ...]
    total: int
    """Lines on all pages."""
    page: int
    pages: int


class ReleaseLine(msgspec.Struct, frozen=True, kw_only=True):
    """All workloads of one release in one namespace."""

    namespace: str
    release: str
    counts: Mapping[AuditState, int]
    since: datetime
    """Of its most urgent workload, the latest."""

    @property
    def worst(self) -> AuditState:
        """The most urgent state that any of them is in."""
        return next(state for state in URGENCY if self.counts.get(state))

    @property
    def total(self) -> int:
        """Workloads."""
        return sum(self.counts.values())


class ReleaseListing(msgspec.Struct, frozen=True, kw_only=True):
    """One page of releases."""

    lines: tuple[ReleaseLine, ...]
    total: int
    page: int
    pages: int


class NamespaceLine(msgspec.Struct, frozen=True, kw_only=True):
    """How many workloads of a namespace are in each state."""

    namespace: str
    counts: Mapping[AuditState, int]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Where things stand."""

    counts: Mapping[AuditState, int]
    problems: tuple[Record, ...]
    """The most urgent ones."""
    problems_total: int
    namespaces: tuple[NamespaceLine, ...]
    """Those with the most that is wrong."""
    namespaces_total: int

    @property
    def total(self) -> int:
        """Audits."""
        return sum(self.counts.values())


def overview(
    counts: Mapping[str, Mapping[AuditState, int]], problems: Iterable[Record], visible: Visible
) -> Overview:
    """The first look."""
    seen = {name: each for name, each in counts.items() if visible is None or name in visible}
    total: Counter[AuditState] = Counter()
    for each in seen.values():
        total.update(each)
    lines = [NamespaceLine(namespace=name, counts=each) for name, each in seen.items()]
    lines.sort(key=lambda line: (*(-line.counts.get(state, 0) for state in URGENCY), line.namespace))
    urgent = sorted((each for each in problems if visible is None or each.namespace in visible), key=_urgency)
    return Overview(
        counts=total,
        problems=tuple(urgent[:FIRST_LOOK]),
        problems_total=len(urgent),
        namespaces=tuple(lines[:FIRST_LOOK]),
        namespaces_total=len(lines),
    )


def listing(records: Iterable[Record], query: Query, visible: Visible) -> Listing:
    """The page of the table that the query asks for, or the last there is; the urgent first, of these the latest."""
    found = sorted(matching(records, query, visible), key=_urgency)
    page, pages = _place(query.page, len(found))
    shown = found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    return Listing(lines=tuple(shown), total=len(found), page=page, pages=pages)


def releases(records: Iterable[Record], query: Query, visible: Visible) -> ReleaseListing:
    """The same by release and namespace."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for each in matching(records, query, visible):
        groups.setdefault((each.namespace, each.release), []).append(each)
    lines = [_release(*key, group) for key, group in groups.items()]
    lines.sort(key=lambda line: (_URGENCY[line.worst], -line.since.timestamp()))
    page, pages = _place(query.page, len(lines))
    shown = lines[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    return ReleaseListing(lines=tuple(shown), total=len(lines), page=page, pages=pages)


def matching(records: Iterable[Record], query: Query, visible: Visible) -> list[Record]:
    """Those that may be seen and fit the query: every word of the text stands somewhere in the record."""
    words = query.text.lower().split()
    states = frozenset(query.states)
    return [
        each
        for each in records
        if (visible is None or each.namespace in visible)
        and each.state in states
        and (not query.namespace or each.namespace == query.namespace)
        and (not query.release or each.release == query.release)
        and (not words or _says(each, words))
    ]


def ago(then: datetime, now: datetime) -> str:
    """How long ago, as people say it: `just now`, `5 min`, `3 h`, `12 days`."""
    seconds = (now - then).total_seconds()
    for size, name in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' if name == 'day' and count > 1 else ''} ago"
    return "just now"


def _says(record: Record, words: list[str]) -> bool:
    texts = (
        record.namespace,
        record.name,
        record.release,
        record.result,
        record.reason,
        record.policy,
        *record.images,
    )
    said = "\n".join(texts).lower()
    return all(word in said for word in words)


def _release(namespace: str, release: str, group: list[Record]) -> ReleaseLine:
    counts = Counter(each.state for each in group)
    worst = min(counts, key=_URGENCY.__getitem__)
    since = max(each.since for each in group if each.state is worst)
    return ReleaseLine(namespace=namespace, release=release, counts=counts, since=since)


def _urgency(record: Record) -> float:
    """What matters more sorts first, and of these the latest; a number, which sorts fast."""
    return _URGENCY[record.state] * 1e12 - record.since.timestamp()


def _place(page: int, count: int) -> tuple[int, int]:
    pages = max(1, -(-count // PAGE_SIZE))
    return min(page, pages), pages


def _typed(text: str) -> str:
    return text.strip()[:MAX_TEXT]
