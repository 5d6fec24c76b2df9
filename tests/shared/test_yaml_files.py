"""YAML that people write: what no library should be given, refused in a line that says where."""

import time
from pathlib import Path

import pytest
import yaml

from shared import yaml_files
from shared.errors import BadSetting


def written(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("opening", ["[", "{a: "])
def test_brackets_nested_too_deeply_are_refused_before_they_cost_anything(
    opening: str, tmp_path: Path
) -> None:
    """PyYAML takes seconds for the 1,500, and four times as long for twice as many."""
    began = time.process_time()
    with pytest.raises(BadSetting, match=r"no YAML \(line 2\)"):
        yaml_files.document("--file", written(tmp_path, "\n" + opening * 5000))
    with pytest.raises(yaml.YAMLError):
        yaml_files.texts(opening * 5000)
    assert time.process_time() - began < 2.0


def test_brackets_nested_as_deeply_as_anybody_writes_are_read(tmp_path: Path) -> None:
    text = "[" * yaml_files.DEEPEST + "]" * yaml_files.DEEPEST
    assert yaml_files.document("--file", written(tmp_path, text)) == yaml_files.texts(text)


def test_where_one_document_is_read_several_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"file\.yaml has 2 documents: one is read"):
        yaml_files.document("--file", written(tmp_path, "a: 1\n---\nb: 2\n"))
    assert yaml_files.document("--file", written(tmp_path, "")) is None
