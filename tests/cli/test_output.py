"""What commands print: nothing that a terminal obeys, and an exit code that counts also when nobody reads on."""

import asyncio
import json

import pytest
import yaml

from services.cli import frame, output
from tests.support.command_line import CommandLine

HOSTILE = "x\x1b[2J\x9b31m\x7f\u202e\u2028\U000e0041æ日"


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_programs_get_a_strangers_text_whole_and_terminals_nothing_to_obey(
    form: frame.Output, capsys: pytest.CaptureFixture[str]
) -> None:
    for show in (output.emit, output.emit_one):
        show({"image": HOSTILE}, form, "")
        printed = capsys.readouterr().out
        assert all(each.isprintable() or each == "\n" for each in printed)
        assert (json.loads if form == "json" else yaml.safe_load)(printed) == {"image": HOSTILE}


def test_people_get_it_printable() -> None:
    shown = output.printable(HOSTILE)
    assert shown.isprintable()
    assert shown.startswith("x?[2J?31m")
    assert shown.endswith("æ日")


async def test_the_answer_is_no_also_when_nobody_reads_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("nothing")
    command = CommandLine({"KUBECONFIG": str(folder / "none"), "MOORGATE_NATS_URL": "nats://127.0.0.1:1"})
    async with command.started("status") as child:
        assert child.stdout is not None
        child.stdout._transport.close()  # type: ignore[attr-defined]  # the reader's end, as `head` closes it
        code = await asyncio.wait_for(child.wait(), 60)
    assert code not in (0, 120)
