"""The table of docs/coverage.md: container kinds by operations by modes, and outcomes by rules.

The parametrised tests of tests/integration/test_matrix.py take their cells from here, tell what the API
server answered, and write the page when WRITE_COVERAGE is set. A test holds the committed
page's cells against these.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
WRITE = "WRITE_COVERAGE"
"""Environment variable: rewrite the page from this run."""

TESTS = "tests/integration/test_matrix.py"

KINDS = ("container", "init", "sidecar", "ephemeral", "volume")
OPERATIONS = {
    "create": "Pod CREATE",
    "update": "Pod UPDATE: the image is replaced by a failing one",
    "ephemeralcontainers": "UPDATE of pods/ephemeralcontainers with a failing image",
}
RULES: Mapping[str, Mapping[str, str]] = {
    "enforce": {"mode": "enforce", "onPending": "retry", "onError": "deny"},
    "lenient": {"mode": "enforce", "onPending": "allow", "onError": "allow"},
    "strict": {"mode": "enforce", "onPending": "deny", "onError": "deny"},
    "warn": {"mode": "warn"},
    "audit": {"mode": "audit"},
    "off": {"mode": "off"},
    "whitelisted": {"mode": "enforce"},
}
"""Each has its namespace; in that of `whitelisted` the Pods are of a release with a WhiteListItem."""
MODES = ("enforce", "warn", "audit", "off", "whitelisted")
OUTCOMES = ("passes", "fails", "pending", "error")


class Answer(StrEnum):
    """What the API server's client sees."""

    ALLOWED = "allowed"
    WARNED = "allowed, with a warning"
    REFUSED = "refused 403"
    PUT_OFF = "deferred 429"
    TOO_EARLY = "refused 429"
    NO_VERDICT = "refused 503"
    IMPOSSIBLE = "not valid in Kubernetes (422)"
    IGNORED = "ignored by Kubernetes"


class Cell(NamedTuple):
    """One image at one door under one mode."""

    operation: str
    kind: str
    mode: str

    def __str__(self) -> str:
        return "-".join(self)

    @property
    def expected(self) -> Answer:
        """By the design's table; what Kubernetes itself has no room for comes first."""
        if self.operation == "ephemeralcontainers" and self.kind != "ephemeral":
            return Answer.IGNORED
        if self.operation != "ephemeralcontainers" and self.kind == "ephemeral":
            return Answer.IMPOSSIBLE
        if self.operation == "update" and self.kind == "volume":
            return Answer.IMPOSSIBLE
        return OutcomeCell("fails", self.mode).expected


class OutcomeCell(NamedTuple):
    """What is known of the image of a new Pod, and its rule."""

    outcome: str
    rule: str

    def __str__(self) -> str:
        return "-".join(self)

    @property
    def expected(self) -> Answer:
        """The design's table of decisions."""
        return _EXPECTED[self.outcome].get(self.rule, Answer.ALLOWED)


_EXPECTED: Mapping[str, Mapping[str, Answer]] = {
    "passes": {},
    "fails": {
        **dict.fromkeys(("enforce", "lenient", "strict"), Answer.REFUSED),
        "warn": Answer.WARNED,
    },
    "pending": {"enforce": Answer.PUT_OFF, "lenient": Answer.WARNED, "strict": Answer.TOO_EARLY},
    "error": {
        **dict.fromkeys(("enforce", "strict"), Answer.NO_VERDICT),
        **dict.fromkeys(("lenient", "warn"), Answer.WARNED),
    },
}

CELLS = tuple(Cell(operation, kind, mode) for operation in OPERATIONS for kind in KINDS for mode in MODES)
OUTCOME_CELLS = tuple(OutcomeCell(outcome, rule) for outcome in OUTCOMES for rule in RULES)

AnyCell = Cell | OutcomeCell


def render(answers: Mapping[AnyCell, str]) -> str:
    """The page; a cell without an answer says that its test has not passed."""
    return "\n".join(_lines(answers)) + "\n"


def cells_of(page: str) -> dict[str, str]:
    """The answers in a page, by the id of their test."""
    return {found[2]: found[1] for found in re.finditer(r"\| ([^|]+)<br>`([a-z-]+)` ", page)}


def _lines(answers: Mapping[AnyCell, str]) -> Iterator[str]:
    yield "# What is caught where"
    yield ""
    yield (
        "Generated from the tests that ran: each cell is a request to a real API server and what its client got. "
        f"The name in a cell is its test's id in `{TESTS}`. To write this page anew: `{WRITE}=1 "
        f".venv/bin/python -m pytest {TESTS}`."
    )
    for operation, title in OPERATIONS.items():
        yield from ("", f"## {title}", "")
        rows = {kind: [Cell(operation, kind, mode) for mode in MODES] for kind in KINDS}
        yield from _table("image of", MODES, rows, answers)
    yield from ("", "## A new Pod, by what is known of its image", "")
    yield "Rules: " + "; ".join(f"*{name}*: {_spelled(name)}" for name in RULES) + "."
    yield ""
    by_rule = {rule: [OutcomeCell(outcome, rule) for outcome in OUTCOMES] for rule in RULES}
    yield from _table("rule", OUTCOMES, by_rule, answers)


def _table(
    corner: str,
    heads: Iterable[str],
    rows: Mapping[str, Iterable[AnyCell]],
    answers: Mapping[AnyCell, str],
) -> Iterator[str]:
    heads = list(heads)
    yield f"| {corner} | " + " | ".join(heads) + " |"
    yield "|---" * (len(heads) + 1) + "|"
    for name, cells in rows.items():
        shown = [f"{answers.get(cell, 'NOT PASSED')}<br>`{cell}`" for cell in cells]
        yield f"| {name} | " + " | ".join(shown) + " |"


def _spelled(rule: str) -> str:
    if rule == "whitelisted":
        return "mode enforce, the Pod's release has a WhiteListItem"
    return ", ".join(f"{key} {value}" for key, value in RULES[rule].items())
