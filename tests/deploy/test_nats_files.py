"""The chart's NATS files: what the docs say of the users is what the users may do, and the server takes the files."""

import re
import subprocess
from pathlib import Path

import pytest

from deploy.dev.nats_access import FILES, USERS, NatsAccess
from deploy.dev.programs import installed

DOCS = Path(__file__).parents[2] / "docs" / "nats.md"
MARK = "<!-- users: checked by tests/deploy/test_nats_files.py -->"


def users() -> dict[str, tuple[list[str], list[str]]]:
    """What each may publish and subscribe to, as the files say."""
    text = "".join((FILES / name).read_text() for name in ("users.conf", "integrators.conf"))
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    found = {}
    for user, body in re.findall(r'user: "([^"]+)"(.*?)(?=user: "|exports:|\Z)', text, re.DOTALL):
        publish, _, subscribe = body.partition("subscribe")
        subjects = [
            re.findall(r'"([^"]+)"', each.split("allow_responses")[0]) for each in (publish, subscribe)
        ]
        found[user] = (subjects[0], subjects[1])
    return found


def table() -> str:
    """The table of the docs."""
    lines = [
        "| user | may publish (`$JS.API` is JetStream's own interface) | may subscribe to |",
        "|---|---|---|",
    ]
    for user, columns in users().items():
        publish, subscribe = ("<br>".join(f"`{each}`" for each in column) for column in columns)
        lines.append(f"| `{user}` | {publish} | {subscribe} |")
    return "\n".join(lines)


def test_the_docs_say_what_each_user_may_do() -> None:
    after = DOCS.read_text().partition(MARK)[2].strip()
    shown = after.partition("\n\n")[0]
    assert shown == table(), f"put this below the mark in {DOCS.name}:\n{table()}"


def test_the_stack_has_a_password_for_every_user() -> None:
    assert sorted(users()) == sorted(USERS)


@pytest.mark.parametrize("shape", ["single.conf", "cluster.conf"])
def test_the_server_takes_the_files(shape: str, tmp_path: Path) -> None:
    access = NatsAccess(folder=tmp_path / "etc")
    access.write()
    environment = {
        **access.server_environment(),
        "MOORGATE_NATS_STORE_DIR": str(tmp_path),
        "POD_NAME": "nats-0",
    }
    checked = subprocess.run(
        [installed("nats-server"), "-t", "-c", access.folder / shape],
        cwd=access.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
