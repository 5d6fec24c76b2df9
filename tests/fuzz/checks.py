"""What no answer, log line, subject or key may be, whatever came in."""

import functools
import re
import time

_TOKEN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

SLOW = 2.0
"""Seconds of CPU one input may take on most machines; what is exponential takes minutes."""

_USUAL = 0.1
"""Seconds of CPU that most machines take for `_work`."""


@functools.cache
def slow() -> float:
    """`SLOW`, for this machine: where everything takes longer, an input may too."""
    started = time.process_time()
    _work()
    return SLOW * max(1.0, (time.process_time() - started) / _USUAL)


def _work() -> None:
    total = 0
    for number in range(2_000_000):
        total += number


def check_line(text: str, limit: int = 1500) -> None:
    """One line that no terminal takes for a command."""
    assert len(text.encode()) <= limit, len(text)
    assert text.isprintable(), repr(text)


def check_subject(subject: str, tokens: int) -> None:
    """A subject of exactly so many plain tokens: no wildcard, no blank, no other subject."""
    found = subject.split(".")
    assert len(found) == tokens, subject
    assert all(_TOKEN.fullmatch(token) for token in found), subject


def check_fault(text: str) -> None:
    """A fault of somebody's file or setting: said, and in one line."""
    assert text
    assert "\n" not in text, text


def check_code(code: int, known: set[int]) -> None:
    """One of the documented ones."""
    assert code in known, code


def check_bounded(text: str, limit: int = 1500) -> None:
    """Of megabytes that somebody answered nothing much is kept."""
    assert len(text) < limit, len(text)
