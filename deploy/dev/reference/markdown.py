"""Markdown as the reference pages need it: a table whose cells hold what they like."""

from collections.abc import Iterable

MADE = "<!-- Made from the code by `make docs`; a test fails where it is not what the code says. -->"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; line breaks and pipes within a cell would end it."""
    titles = list(heads)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(
        "|" + "|".join(f" {cell(each)} " for each in line).replace("  ", " ") + "|" for line in lines
    )


def cell(text: str) -> str:
    """One line that does not end its cell, and has no HTML in it."""
    spans = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(each if at % 2 else each.replace("<", "\\<") for at, each in enumerate(spans))


def code(words: Iterable[object]) -> str:
    """Each word in backticks, with commas."""
    return ", ".join(f"`{word}`" for word in words)
