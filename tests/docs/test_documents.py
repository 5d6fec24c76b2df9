"""A page's commands are cut out and compared as its readers would: what is not as shown is a failure."""

from pathlib import Path

import pytest

from tests.support.documents import Block, Reader, blocks
from tests.support.road import until

PAGE = """\
1. Type

   <!-- exit: 3, repeat -->
   ```sh
   echo one
     exit 3
   ```

   ```text
   one
   ```

Some words.

```text
nobody typed this
```

```sh
echo a   b; echo c
```

```text
a … b
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.md"
    file.write_text(PAGE)
    return file


def test_blocks_are_cut_out_with_what_is_shown(page: Path) -> None:
    first, second = blocks(page)
    assert first == Block("echo one\n  exit 3", frozenset({"exit: 3", "repeat"}), "one")
    assert (first.name, first.code) == ("echo one", 3)
    assert second == Block("echo a   b; echo c", frozenset(), "a … b")


def test_marks_without_commands_are_a_slip(page: Path) -> None:
    page.write_text("<!-- whole -->\n```text\nx\n```\n")
    with pytest.raises(ValueError, match="whole"):
        blocks(page)


@pytest.mark.parametrize(
    ("shown", "output", "missing"),
    [
        ("a … c", "a b  c\n", []),
        ("a\nc", "a\nb\nc\n", []),
        ("c\na", "a\nc\n", ["a"]),
        ("a", "b\n", ["a"]),
        ("pod-x … allowed", "pod-x   r   allowed   1m\n", []),
        ("pod-x … allowed", "pod-x   r   reject   1m\n", ["pod-x … allowed"]),
        ("a.c", "abc\n", ["a.c"]),
    ],
)
def test_what_is_shown_must_come_in_its_order(shown: str, output: str, missing: list[str]) -> None:
    assert Block("x", shown=shown).missing(output) == missing


def test_the_whole_of_it_is_no_line_more() -> None:
    block = Block("x", frozenset({"whole"}), "a\nb")
    assert not block.missing("a\nb\n")
    assert block.missing("a\nb\nc\n") == ["2 lines, not 3"]


async def test_commands_are_typed_and_their_end_is_looked_at(page: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path, first="greeting=hello")
    for block in blocks(page):
        await reader.follow(block)
    assert await reader.follow(Block('echo "$greeting"', shown="hello")) == "hello\n"
    for wrong in (Block("false"), Block("true", frozenset({"exit: 1"})), Block("echo a", shown="b")):
        with pytest.raises(AssertionError, match="not shown"):
            await reader.follow(wrong)


async def test_what_takes_a_moment_is_looked_at_again(tmp_path: Path) -> None:
    later = Block("echo x >> log; wc -l < log", frozenset({"repeat"}), "2")
    await Reader(tmp_path).follow(later)
    with pytest.raises(AssertionError, match="never"):
        await Reader(tmp_path).follow(Block("echo a", frozenset({"repeat"}), "never"), seconds=0.5)


async def test_what_does_not_end_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    forever = Block("echo begun; sleep 600 & echo $! > pid; wait")
    with pytest.raises(AssertionError, match=r"begun\n\nnot done after 1 s"):
        await Reader(tmp_path).follow(forever, seconds=1)
    child = int((tmp_path / "pid").read_text())

    async def is_gone() -> bool:
        return is_over(child)

    await until(is_gone, "the shell's child is gone")


def is_over(process: int) -> bool:
    """Gone, or dead and not buried."""
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or " Z " in state.read_text()
