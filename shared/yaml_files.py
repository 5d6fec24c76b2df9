"""YAML that people write for Moorgate: safe, without a key given twice, and no fault that quotes what stands there.

The second of two keys would silently take the first one's place. A fault is told by its line alone: the text of the
YAML library's own errors repeats the line at fault, which may hold a password.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from shared.errors import BadSetting

DEEPEST = 100
"""Brackets within brackets: far more than anybody writes. The library's scanner takes time by their square."""


class _Shallow(yaml.reader.Reader, yaml.scanner.Scanner):
    """Refuses brackets nested deeper than `DEEPEST`."""

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        """As the library does, after a look at the depth. Raises `yaml.YAMLError`."""
        if self.flow_level >= DEEPEST:
            raise yaml.scanner.ScannerError(problem="nested too deeply", problem_mark=self.get_mark())
        super().fetch_flow_collection_start(token_class)


class TextLoader(_Shallow, yaml.BaseLoader):
    """Makes nothing but texts, lists and maps."""


class Loader(_Shallow, yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """As the library does, after a look at the keys. Raises `GivenTwice`."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise GivenTwice(problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class GivenTwice(yaml.MarkedYAMLError):
    """A key is there twice."""


def texts(text: str) -> Any:
    """What stands there, as texts, lists and maps. Raises `yaml.YAMLError` and nothing else, whatever stands there."""
    with _faults():
        return yaml.load(text, TextLoader)  # noqa: S506  less than a SafeLoader


def document(setting: str, path: Path) -> Any:
    """The only document of the file, None where it is empty. Raises `BadSetting` with the line to show."""
    found = documents(setting, path)
    if len(found) > 1:
        raise BadSetting(f"{setting}: {path} has {len(found)} documents: one is read")
    return found[0] if found else None


def documents(setting: str, path: Path) -> list[Any]:
    """All documents of the file, empty ones as None. Raises `BadSetting` with the line to show."""
    try:
        text = path.read_text(encoding="utf-8")
        with _faults():
            return list(yaml.load_all(text, Loader=Loader))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadSetting(f"{setting}: cannot read {path}: {reason}") from error
    except GivenTwice as error:
        raise BadSetting(f"{setting}: {path} has a key twice{where(error)}") from None
    except yaml.YAMLError as error:
        raise BadSetting(f"{setting}: {path} is no YAML{where(error)}") from None


@contextmanager
def _faults() -> Iterator[None]:
    """The library falls over values that do not fit their tag (`!!bool maybe`), in ways of its own."""
    try:
        yield
    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise yaml.YAMLError(type(error).__name__) from error


def where(error: Exception) -> str:
    """The line at fault, where it is known."""
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 1})" if mark else ""
