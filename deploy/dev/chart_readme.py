"""Makes the table of values in the chart's README.md out of values.yaml, so that there is one text about each value.

The comment right above a key is its description; that above a block at the top level introduces its table. What
stands outside the two marks in README.md is written by hand. `python -m deploy.dev.chart_readme` writes the file.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from deploy.dev.helm import CHART

BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"


@dataclass(frozen=True)
class Value:
    """One value: its dotted name, what it is by default, what is said of it."""

    name: str
    default: str
    description: str


@dataclass
class Section:
    """The values of one key at the top level."""

    name: str
    introduction: str
    values: list[Value] = field(default_factory=list)


def sections(text: str) -> list[Section]:
    """What a values.yaml says; keys at the top level that are no block come together, first."""
    root, lines = yaml.compose(text, yaml.SafeLoader), text.splitlines()
    if not isinstance(root, yaml.MappingNode):
        raise TypeError("values.yaml is no mapping")
    alone, found = Section("", ""), list[Section]()
    for key, value in root.value:
        if _is_block(value):
            section = Section(key.value, _comment(lines, key))
            section.values += _values(key.value, value, lines, "")
            found.append(section)
        else:
            alone.values.append(_value(key.value, key, value, lines))
    return [alone, *found]


def rendered(text: str) -> str:
    """The tables, in Markdown."""
    parts = []
    for section in sections(text):
        heading = [f"### `{section.name}`", ""] if section.name else ["### For all parts", ""]
        introduction = [section.introduction, ""] if section.introduction else []
        rows = [f"| `{each.name}` | `{each.default}` | {each.description} |" for each in section.values]
        parts.append("\n".join([*heading, *introduction, "| value | default | |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def with_values(readme: str, values: str) -> str:
    """The README with the tables of these values between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{rendered(values)}\n\n{END}{after}"


def _values(name: str, node: yaml.MappingNode, lines: list[str], said: str) -> Iterator[Value]:
    """What is said of a block is said of each of its values that has no comment of its own."""
    for key, value in node.value:
        dotted = f"{name}.{key.value}"
        if _is_block(value):
            yield from _values(dotted, value, lines, _comment(lines, key))
        else:
            yield _value(dotted, key, value, lines, said)


def _value(name: str, key: yaml.Node, value: yaml.Node, lines: list[str], said: str = "") -> Value:
    """A pipe would end a cell of the table."""
    start, end = value.start_mark, value.end_mark
    written = lines[start.line][start.column : end.column if end.line == start.line else None]
    description = _comment(lines, key) or said
    return Value(name, written.replace("|", "\\|"), description.replace("|", "\\|"))


def _is_block(node: yaml.Node) -> bool:
    """A mapping with a line for each key; `{…}` in one line is a value."""
    return isinstance(node, yaml.MappingNode) and not node.flow_style


def _comment(lines: list[str], key: yaml.Node) -> str:
    """The lines of comment right above."""
    number, found = key.start_mark.line - 1, list[str]()
    while number >= 0 and lines[number].strip().startswith("#"):
        found.insert(0, lines[number].strip().removeprefix("#").strip())
        number -= 1
    return " ".join(found)


def main(chart: Path = CHART) -> int:
    """Write the chart's README.md."""
    readme = chart / "README.md"
    readme.write_text(with_values(readme.read_text(), (chart / "values.yaml").read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
