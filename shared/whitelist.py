"""Which WhiteListItems cover a release: an index fed by a watch, asked on every admission and of what runs.

A release name is what the Pod says; it proves nothing, which is why an item can be narrowed to
namespaces, images and a time. Patterns are RE2 (no backtracking, whatever a user writes), compiled
into one automaton, or into as few as RE2's memory allows: nobody's patterns stop the others from counting.
"""

import fnmatch
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

import re2

from shared import logs
from shared.crds import WhiteListItem
from shared.releases import Release


class Whitelist:
    """All items, by name and by pattern. A feed of `shared.watches.Watch`."""

    def __init__(self, *, cluster_wide: bool) -> None:
        """`cluster_wide`: whether items without namespaces count at all."""
        self._cluster_wide = cluster_wide
        self._items: dict[str, WhiteListItem] = {}
        self._patterns: _Patterns | None = None

    def replace(self, items: list[WhiteListItem]) -> None:
        """These are all there are."""
        self._items = {item.metadata.name: item for item in items}
        self._patterns = None

    def put(self, item: WhiteListItem) -> None:
        """This one is new or changed."""
        self._items[item.metadata.name] = item
        self._patterns = None

    def remove(self, item: WhiteListItem) -> None:
        """This one is gone."""
        self._items.pop(item.metadata.name, None)
        self._patterns = None

    def __len__(self) -> int:
        return len(self._items)

    def covering(self, release: Release, namespace: str, now: datetime) -> list[WhiteListItem]:
        """The items in force for this release in this namespace, by name."""
        if not self._items:
            return []
        names = sorted({*self._by_name(release), *self._compiled().matching(release.name)})
        return [item for name in names if self._is_in_force(item := self._items[name], namespace, now)]

    def _by_name(self, release: Release) -> Iterable[str]:
        """Items without a pattern: the name itself, or for a fake release also what it begins with, up to a `-`."""
        candidates = [release.name]
        if release.is_fake:
            parts = release.name.split("-")
            candidates += ["-".join(parts[:count]) for count in range(1, len(parts))]
        return (name for name in candidates if name in self._items and not self._items[name].spec.regexp)

    def _is_in_force(self, item: WhiteListItem, namespace: str, now: datetime) -> bool:
        spec = item.spec
        if spec.expires_at is not None and spec.expires_at <= now:
            return False
        return namespace in spec.namespaces if spec.namespaces else self._cluster_wide

    def _compiled(self) -> "_Patterns":
        if self._patterns is None:
            self._patterns = _Patterns(self._items.values())
        return self._patterns


class _Pattern(NamedTuple):
    item: str
    text: str


class _Patterns:
    """Every pattern. One that RE2 refuses covers nothing, and says so in the log."""

    def __init__(self, items: Iterable[WhiteListItem]) -> None:
        wanted = [_Pattern(item.metadata.name, item.spec.regexp) for item in items if item.spec.regexp]
        self._automata = tuple(_automata([pattern for pattern in wanted if _is_readable(pattern)]))

    def matching(self, release: str) -> list[str]:
        """Names of the items whose pattern is the whole of `release`."""
        return [name for automaton in self._automata for name in automaton.matching(release)]


class _Automaton(NamedTuple):
    names: tuple[str, ...]
    patterns: "re2.Set"

    def matching(self, release: str) -> list[str]:
        return [self.names[index] for index in self.patterns.Match(release) or ()]


def _automata(patterns: list[_Pattern]) -> Iterator[_Automaton]:
    """One automaton of all; where that is more than RE2 takes (8 MiB), of each half."""
    if not patterns:
        return
    together = re2.Set.FullMatchSet(_options())
    for pattern in patterns:
        together.Add(pattern.text)
    try:
        together.Compile()
    except re2.error as error:
        middle = len(patterns) // 2
        if not middle:
            _complain(patterns[0], error)
            return
        yield from _automata(patterns[:middle])
        yield from _automata(patterns[middle:])
    else:
        yield _Automaton(tuple(pattern.item for pattern in patterns), together)


def _is_readable(pattern: _Pattern) -> bool:
    try:
        re2.Set.FullMatchSet(_options()).Add(pattern.text)
    except re2.error as error:
        _complain(pattern, error)
        return False
    return True


def _complain(pattern: _Pattern, error: Exception) -> None:
    logs.logger("whitelist").error("bad_pattern", item=pattern.item, error=str(error))


def _options() -> "re2.Options":
    """RE2 would write what it cannot read to stderr itself, raw and outside the log's format."""
    options = re2.Options()
    options.log_errors = False
    return options


def covers_image(item: WhiteListItem, reference: str, written: str) -> bool:
    """Whether the item covers this image: by its normal form, or as the Pod writes it."""
    return not item.spec.images or any(
        fnmatch.fnmatchcase(text, glob) for glob in item.spec.images for text in (reference, written)
    )
