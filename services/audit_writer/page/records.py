"""What the page keeps of every Audit: a small record each, by state, and how many there are in each namespace.

Fed by one list, page by page, and watch. A hundred thousand Audits must fit beside the audit-writer's real work, so a record holds
what lists and searches show and no more; the whole Audit is read when somebody looks at it. Beyond `MAX_RECORDS` what
is well is left out first, and the page says so.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import msgspec

from shared.contracts import Utc
from shared.crds import FAKE_RELEASE_LABEL, NEVER, AuditState, AuditSummary

MAX_RECORDS = 100_000
"""Records kept: some sixty megabytes."""

MAX_IMAGES = 20
"""Images of a record that a search looks at; a Pod seldom has more."""

MAX_TEXT = 512
"""Characters of an image or a release that are kept."""

URGENCY = (
    AuditState.DEGRADED,
    AuditState.REJECTED,
    AuditState.UNVERIFIED,
    AuditState.OBSERVED,
    AuditState.ADMITTED,
)
"""States, what somebody should look at first."""

PROBLEMS = URGENCY[:3]
"""States that ask for somebody."""

Key = tuple[str, str]
"""Namespace and name."""


class SeenMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of an Audit's metadata."""

    name: str
    namespace: str
    resource_version: str | None = None
    labels: dict[str, str] = {}


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    release_name: str = ""
    image: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """An Audit may hold 64 KiB of names: what is over the bounds goes while the list is still being read."""
        kept = tuple(image[:MAX_TEXT] for image in self.image[:MAX_IMAGES])
        msgspec.structs.force_setattr(self, "image", kept)
        msgspec.structs.force_setattr(self, "release_name", self.release_name[:MAX_TEXT])


class _Mark(msgspec.Struct, frozen=True, rename="camel"):
    at: Utc = NEVER
    judged_at: Utc = NEVER


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    state: AuditState
    last_seen: Utc
    decision: _Mark = _Mark()
    summary: AuditSummary = AuditSummary()


class SeenAudit(msgspec.Struct, frozen=True):
    """An Audit as the watch reads it."""

    metadata: SeenMetadata
    spec: _Spec
    status: _Status


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One workload's line."""

    namespace: str
    name: str
    release: str
    is_fake_release: bool
    """Its own name stands for a release."""
    state: AuditState
    images: tuple[str, ...]
    """As written in the Pod."""
    headline: str
    """The image that matters most, and how many more there are."""
    result: str
    reason: str
    policy: str
    since: datetime
    """When a verdict last changed what is said of it; until then when it was decided, or first seen to run."""
    version: str
    """Of the object."""

    @property
    def key(self) -> Key:
        """Which Audit."""
        return self.namespace, self.name


class Shelf:
    """All records. A feed of `shared.watches.PagedWatch`; whoever listens is told which namespace and name changed."""

    def __init__(self, limit: int = MAX_RECORDS) -> None:
        """`limit`: records kept."""
        self.left_out = 0
        """Audits that found no room since the last whole list."""
        self._limit = limit
        self._by_state: dict[AuditState, dict[Key, Record]] = {state: {} for state in URGENCY}
        self._states: dict[Key, AuditState] = {}
        self._counts: dict[str, Counter[AuditState]] = {}
        self._texts: dict[str, str] = {}
        self._listed: set[Key] = set()
        """What the list that is being read has had so far."""
        self._listeners: set[Callable[[str, str], None]] = set()

    def __len__(self) -> int:
        return len(self._states)

    def replace(self, items: list[SeenAudit]) -> None:
        """These are all there are."""
        self.begin()
        self.add(items)
        self.end()

    def begin(self) -> None:
        """A list begins; what there was is shown until it ends."""
        self.left_out = 0
        self._listed.clear()
        self._texts.clear()

    def add(self, items: list[SeenAudit]) -> None:
        """A page of the list."""
        for item in items:
            key = (item.metadata.namespace, item.metadata.name)
            self._listed.add(key)
            self._drop(key)
            self._keep(item)

    def end(self) -> None:
        """What the list did not have is gone."""
        for key in [each for each in self._states if each not in self._listed]:
            self._drop(key)
        self._listed.clear()
        self._tell("", "")

    def put(self, item: SeenAudit) -> None:
        """This one is new or changed."""
        self._drop((item.metadata.namespace, item.metadata.name))
        self._keep(item)
        self._tell(item.metadata.namespace, item.metadata.name)

    def remove(self, item: SeenAudit) -> None:
        """This one is gone."""
        self._drop((item.metadata.namespace, item.metadata.name))
        self._tell(item.metadata.namespace, item.metadata.name)

    def records(self, states: Iterable[AuditState] = URGENCY) -> list[Record]:
        """Those in these states, as they are now: a copy, that a thread may read while the shelf goes on."""
        found: list[Record] = []
        for state in states:
            found += self._by_state[state].values()
        return found

    def get(self, namespace: str, name: str) -> Record | None:
        """One record."""
        state = self._states.get((namespace, name))
        return None if state is None else self._by_state[state][namespace, name]

    def counts(self) -> dict[str, Counter[AuditState]]:
        """How many in each state, by namespace: a copy."""
        return {namespace: Counter(counts) for namespace, counts in self._counts.items()}

    def namespaces(self) -> Iterator[str]:
        """Where there are Audits."""
        return iter(sorted(self._counts))

    def listen(self, call: Callable[[str, str], None]) -> Callable[[], None]:
        """Call with the namespace and name of each change, both empty: anything; gives what ends it."""
        self._listeners.add(call)
        return lambda: self._listeners.discard(call)

    def _keep(self, item: SeenAudit) -> None:
        state = item.status.state
        if len(self._states) >= self._limit and not (state in PROBLEMS and self._make_room()):
            self.left_out += 1
            return
        record = self._record(item)
        key = record.key
        self._states[key] = state
        self._by_state[state][key] = record
        self._counts.setdefault(record.namespace, Counter())[state] += 1

    def _make_room(self) -> bool:
        """Put out one that is well; False: there is none."""
        for state in reversed(URGENCY):
            if state not in PROBLEMS and self._by_state[state]:
                self._drop(next(iter(self._by_state[state])))
                self.left_out += 1
                return True
        return False

    def _drop(self, key: Key) -> None:
        state = self._states.pop(key, None)
        if state is None:
            return
        del self._by_state[state][key]
        counts = self._counts[key[0]]
        counts[state] -= 1
        if not counts.total():
            del self._counts[key[0]]

    def _record(self, item: SeenAudit) -> Record:
        metadata, spec, status = item.metadata, item.spec, item.status
        summary = status.summary
        return Record(
            namespace=self._one(metadata.namespace),
            name=metadata.name,
            release=self._one(spec.release_name),
            is_fake_release=metadata.labels.get(FAKE_RELEASE_LABEL) == "true",
            state=status.state,
            images=tuple(self._one(image) for image in spec.image[:MAX_IMAGES]),
            headline=self._one(summary.images),
            result=self._one(summary.result),
            reason=self._one(summary.reason),
            policy=self._one(summary.policy),
            since=_since(status),
            version=metadata.resource_version or "",
        )

    def _one(self, text: str) -> str:
        """The same text once in memory: most workloads run the same few images."""
        if len(self._texts) > 2 * self._limit:
            self._texts.clear()
        return self._texts.setdefault(text, text)

    def _tell(self, namespace: str, name: str) -> None:
        for call in tuple(self._listeners):
            call(namespace, name)


def _since(status: _Status) -> datetime:
    since = max(status.decision.judged_at, status.decision.at)
    return since if since > NEVER else status.last_seen
