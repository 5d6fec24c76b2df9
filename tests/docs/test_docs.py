"""What the documentation names is there: links, settings, values, commands, metrics, and examples that would be taken.

A runbook is read when things are on fire; a command that is no longer called so costs more there than anywhere. Names are
taken from code, not from prose: what stands in backticks or in a fenced block.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import cyclopts
import jsonschema
import msgspec
import pytest
import yaml

from services.cli.__main__ import app
from shared import crds, settings, subjects
from shared.policies import PolicySpec, compile_policy

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/moorgate"
PAGES = (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
INDEX = ROOT / "docs" / "README.md"
OTHER_PAGES = (*sorted(ROOT.glob("*.md")), ROOT / "examples/README.md", CHART / "README.md")
"""What the index may lead to beside the pages in docs."""
LONGEST = 400
"""Lines of a page that is written by hand: who looks for something in a longer one does not find it."""

OTHER_FILES = frozenset({"scanning.md", "notifications.md"})
"""Their YAML is that of services' own files, whose keys look like values."""
NO_VALUES = frozenset({"anchore.username"})
"""A key of the bootstrap's file (docs/bootstrap.md)."""
ALIEN_VALUES = ("anchoreGlobal.", "apiService.", "config.app.", "externalAnchore.", "postgresql.", "service.")
"""Values of other charts, which a page on moving from them names."""

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
SETTING = re.compile(r"\bMOORGATE_[A-Z0-9_]*[A-Z0-9]\b")
METRIC = re.compile(r"\bmoorgate_[a-z0-9_]+\b")
VALUE = re.compile(r"([a-z][A-Za-z]*(?:\.[A-Za-z]+)+)(?:=\S*)?")
SET = re.compile(r"--set(?:-string|-json|-file)?[ =]([A-Za-z.]+)=")
COMMAND = re.compile(
    r"(?:^ *(?:\$ )?|[|;&(] *|-- )(?:[A-Z_]+=\S* +)*(?:uv run )?moorgate +([a-z][^|;&#()\n]*)", re.MULTILINE
)
FILE_NAME = re.compile(r"\.(?:conf|creds|crt|json|key|md|password|pem|yaml)$")


def each_page(pages: Iterable[Path] = PAGES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks: language and text, without the indentation of a list around them."""
    found = []
    for language, text in FENCE.findall(page.read_text()):
        margin = min(
            (len(line) - len(line.lstrip()) for line in text.splitlines() if line.strip()), default=0
        )
        found.append((language, "\n".join(line[margin:] for line in text.splitlines())))
    return found


@cache
def spans(page: Path) -> list[str]:
    return SPAN.findall(FENCE.sub("", page.read_text()))


def code(page: Path) -> str:
    return "\n".join([*spans(page), *(text for _, text in blocks(page))])


@cache
def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = HEADING.findall(FENCE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def prose(page: Path) -> str:
    """Without what stands in blocks or backticks, where brackets mean something else."""
    return SPAN.sub("", FENCE.sub("", page.read_text()))


def broken(page: Path) -> Iterator[str]:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield target


@each_page()
def test_links_lead_somewhere(page: Path) -> None:
    assert not list(broken(page))


def linked(page: Path) -> set[Path]:
    """The files that it leads to; a link to a folder leads to its README."""
    targets = (target.partition("#")[0] for target in LINK.findall(prose(page)))
    files = {(page.parent / target).resolve() for target in targets if target and ":" not in target}
    return {each / "README.md" if each.is_dir() else each for each in files}


def test_no_page_is_out_of_reach_of_the_index() -> None:
    """From the README to the index, from the index to every page, itself or through the index of its folder."""
    assert INDEX in linked(ROOT / "README.md")
    reached = linked(INDEX)
    for index in [page for page in reached if page.name == "README.md" and page in PAGES]:
        reached |= linked(index)
    assert not set((ROOT / "docs").rglob("*.md")) - reached - {INDEX}


@each_page(OTHER_PAGES)
def test_links_of_other_pages_lead_somewhere(page: Path) -> None:
    assert not list(broken(page))


@each_page([page for page in PAGES if page.parent.name != "reference" and page.name != "CHANGELOG.md"])
def test_a_page_is_short_enough_to_be_read(page: Path) -> None:
    assert len(page.read_text().splitlines()) <= LONGEST


@each_page()
def test_a_picture_is_there_and_says_what_it_shows(page: Path) -> None:
    for text, target in IMAGE.findall(prose(page)):
        assert len(text) > 20, f"{target}: who cannot see it reads {text!r}"
        picture = page.parent / target
        if picture.suffix == ".svg":
            root = ET.fromstring(picture.read_text())
            assert root.find("{http://www.w3.org/2000/svg}desc") is not None
            assert "prefers-color-scheme: dark" in picture.read_text()


@cache
def settings_known() -> frozenset[str]:
    """Of the services, of NATS' configuration, of compose; and the streams, which are written alike."""
    beside = [ROOT / "docker-compose.yml", *sorted((CHART / "files/nats").glob("*.conf"))]
    named = {name for file in beside for name in SETTING.findall(file.read_text())}
    streams = {each for each in vars(subjects).values() if isinstance(each, str)}
    secrets = {f"{name}_FILE" for name in settings._SECRETS}
    return settings.KNOWN | secrets | named | streams


@each_page()
def test_settings_are_known_and_built(page: Path) -> None:
    assert not set(SETTING.findall(page.read_text())) - settings_known() - unfinished(page)


def unfinished(page: Path) -> set[str]:
    """`MOORGATE_NATS_…`: the beginning of several."""
    begun = re.findall(r"\b(MOORGATE_[A-Z_]*?)_?…", page.read_text())
    return {begin for begin in begun if any(name.startswith(begin) for name in settings.KNOWN)}


@cache
def metrics_known() -> str:
    folders = (ROOT / "services", ROOT / "shared")
    return "\n".join(file.read_text() for folder in folders for file in sorted(folder.rglob("*.py")))


@each_page()
def test_metrics_and_buckets_are_there(page: Path) -> None:
    names = {re.sub(r"_(?:bucket|sum|count|info)$", "", name) for name in METRIC.findall(code(page))}
    assert not {name for name in names if not re.search(rf'"{name}"', metrics_known())}


@cache
def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return loaded


def is_value(path: str) -> bool:
    here: Any = values()
    for key in path.split("."):
        if not isinstance(here, dict) or (here and key not in here):
            return False
        if not here:  # an empty map takes what the schema says
            return True
        here = here[key]
    return True


def named_values(page: Path) -> Iterator[str]:
    for span in spans(page):
        match = VALUE.fullmatch(span)
        if match and match[1].split(".")[0] in values() and not FILE_NAME.search(match[1]):
            yield match[1]
    yield from SET.findall(code(page))


@each_page()
def test_values_are_the_charts(page: Path) -> None:
    named = {name for name in named_values(page) if not name.startswith(ALIEN_VALUES)}
    assert not {name for name in named - NO_VALUES if not is_value(name)}


def merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: merged(base.get(key), value) for key, value in over.items()}
    return over


def values_files(page: Path) -> Iterator[dict[str, Any]]:
    for language, text in blocks(page):
        loaded = yaml.safe_load(text) if language == "yaml" else None
        if isinstance(loaded, dict) and loaded.keys() <= values().keys():
            yield loaded


@each_page([page for page in PAGES if page.name not in OTHER_FILES])
def test_files_of_values_are_taken(page: Path) -> None:
    schema = msgspec.json.decode((CHART / "values.schema.json").read_bytes())
    for each in values_files(page):
        jsonschema.validate(merged(values(), each), schema)


def commands(page: Path) -> Iterator[str]:
    for text in [*spans(page), *(text for _, text in blocks(page))]:
        yield from (found.strip() for found in COMMAND.findall(text.replace("\\\n", " ")))


@each_page()
def test_commands_are_understood(page: Path) -> None:
    assert not [command for command in commands(page) if not is_understood(command)]


def is_understood(command: str) -> bool:
    """By the program's own parser. Prose may leave out what is required, but name nothing that is not there."""
    words = [re.sub(r"^[A-Z/]+$", "1", word) for word in shlex.split(command) if "…" not in word]
    try:
        app.parse_args(words, exit_on_error=False, print_error=False)
    except cyclopts.MissingArgumentError:
        return True
    except cyclopts.CycloptsError:
        return False
    return True


def examples(page: Path) -> list[dict[str, Any]]:
    """The custom resources in YAML blocks."""
    found = [
        each for language, text in blocks(page) if language == "yaml" for each in yaml.safe_load_all(text)
    ]
    return [each for each in found if isinstance(each, dict) and each.get("apiVersion") == crds.API_VERSION]


def closed(schema: Any) -> Any:
    """The API server drops unknown fields; in an example they are slips."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    if "properties" in inner:
        inner.setdefault("additionalProperties", False)
    return inner


@cache
def definitions() -> dict[str, Any]:
    found = [yaml.safe_load(file.read_text()) for file in sorted((CHART / "files/crds").glob("*.yaml"))]
    return {
        each["spec"]["names"]["kind"]: each["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for each in found
    }


@each_page()
def test_examples_would_be_taken(page: Path) -> None:
    for each in examples(page):
        spec = definitions()[each["kind"]]["properties"]["spec"]
        jsonschema.validate(each["spec"], closed(spec))
        if each["kind"] == "ImagePolicy":
            name = each["metadata"]["name"]
            assert compile_policy(name, msgspec.convert(each["spec"], PolicySpec)).finding is None
        if each["kind"] == "WhiteListItem":
            assert msgspec.convert(each, crds.WhiteListItem).spec.reason


def test_there_is_something_to_check() -> None:
    """A pattern that finds nothing finds no fault."""
    assert all(anchors(page) for page in PAGES)
    assert sum(len(examples(page)) for page in PAGES) >= 6
    assert sum(len(list(commands(page))) for page in PAGES) >= 40
    assert sum(len(list(named_values(page))) for page in PAGES) >= 60
    assert sum(len(list(values_files(page))) for page in PAGES) >= 4
