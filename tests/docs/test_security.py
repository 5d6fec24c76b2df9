"""SECURITY.md: every claim in its table names tests that are there, and everybody who matters is in it."""

import re

import pytest

from shared.settings import KNOWN
from tests.docs.test_docs import LINK, ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
TABLE = PAGE.partition("| who | could want |")[2].partition("\n\n")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines()[2:]]
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")

WHO = (
    "creator of Pods",
    "administrator of a namespace",
    "user with rights on whitelist items",
    "outsider on the Pod network",
    "compromised gateway",
    "compromised scanner",
    "compromised audit-writer",
    "compromised integrator (another tool)",
    "compromised or lying Anchore",
    "compromised NATS",
    "compromised registry",
    "reader of logs, metrics, events, Audits, messages",
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1]}"[:60])
def test_what_is_held_is_shown_by_tests_that_are_there(row: list[str]) -> None:
    assert len(row) == 4
    assert all(row), row
    named = TEST.findall(row[3])
    assert named, "a claim without a test"
    assert TEST.sub("", row[3]).strip(", ") == "", "nothing but tests stands there"
    for path, function in named:
        text = (ROOT / path).read_text()
        assert re.search(rf"^(?:async )?def {function or 'test_'}", text, re.MULTILINE), (path, function)


def test_everybody_is_in_it() -> None:
    assert {row[0] for row in ROWS} >= set(WHO)


def test_its_links_lead_somewhere() -> None:
    for link in LINK.findall(PAGE):
        assert link.startswith("https://docs.github.com/") or (ROOT / link).is_file(), link


def test_the_settings_that_it_names_are_there() -> None:

    assert set(re.findall(r"MOORGATE_[A-Z_]+", PAGE)) <= KNOWN
