"""Every command of the operator's, and what it says when something is away or not allowed: one line, and the documented code.

A command that is new must be put into this table, or said to be none of the operator's.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cyclopts
import pytest

from deploy.dev.ports import free_port
from services.cli.__main__ import app
from tests.support.command_line import CommandLine
from tests.support.road import WatchedRoad

BUNDLE = str(Path(__file__).parents[2] / "services" / "cli" / "bundles" / "deny_all.json")
IMAGE = "nginx:1.25"

ASKED: dict[str, tuple[str, ...]] = {
    "audits": ("audits", "-n", "default"),
    "bootstrap": ("bootstrap",),
    "check": ("check", IMAGE),
    "dead list": ("dead", "list"),
    "dead retry": ("dead", "retry", "1"),
    "dead drop": ("dead", "drop", "1"),
    "doctor": ("doctor",),
    "explain": ("explain", "pod/nobody", "-n", "default"),
    "manifest check": ("manifest", "check", "POD", "-n", "default"),
    "status": ("status",),
    "what-if": ("what-if", "--bundle", BUNDLE, "-n", "default"),
    "whitelist add": ("whitelist", "add", "nobody", "--reason", "test"),
    "whitelist list": ("whitelist", "list"),
    "whitelist remove": ("whitelist", "remove", "nobody"),
}
NO_OPERATORS = {
    *("gateway", "scanner", "audit-writer"),
    *("completion", "streams apply", "secrets apply", "outbox import"),
    *("webhooks apply", "webhooks remove", "webhooks status"),
}
"""What starts services, sets things up, or has an output of its own."""

OF_THE_CLUSTER = (
    "audits",
    "explain",
    "manifest check",
    "what-if",
    "whitelist add",
    "whitelist list",
    "whitelist remove",
)
OF_NATS = ("check", "dead list", "dead retry", "dead drop", "manifest check")
WHOLE = ("status", "doctor")
"""They tell of each part that cannot be seen, and show the others."""


def leaves(found: cyclopts.App, path: str = "") -> Iterator[str]:
    for name in found:
        if not name.startswith("-"):
            below = found[name]
            deeper = list(leaves(below, f"{path}{name} "))
            yield from deeper or [f"{path}{name}"]


def test_every_command_is_in_the_table() -> None:
    assert set(leaves(app)) == ASKED.keys() | NO_OPERATORS


@pytest.mark.parametrize("output", ["json", "yaml"])
@pytest.mark.parametrize("name", ASKED)
def test_every_command_has_an_output_for_programs(name: str, output: str) -> None:
    _, bound, _ = app.parse_args([*ASKED[name], "-o", output], exit_on_error=False, print_error=False)
    assert bound.arguments["output"] == output


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    pod = tmp_path / "pod.json"
    pod.write_text(
        '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},'
        f' "spec": {{"containers": [{{"name": "c", "image": "{IMAGE}"}}]}}}}'
    )
    return {
        name: tuple(str(pod) if each == "POD" else each for each in words) for name, words in ASKED.items()
    }


@pytest.fixture
def operator(road: WatchedRoad, moorgate: CommandLine) -> CommandLine:
    """With everything that any command wants."""
    return moorgate.given(MOORGATE_ANCHORE_URL=road.anchore_url, MOORGATE_ANCHORE_PASSWORD="foobar")


Asked = dict[str, tuple[str, ...]]


@pytest.mark.cluster
async def test_no_cluster(operator: CommandLine, asked: Asked) -> None:
    nowhere = operator.given(KUBECONFIG="/nowhere")
    await nowhere.refuses(*((2, "no cluster", asked[name]) for name in OF_THE_CLUSTER))
    for name in WHOLE:
        assert "no cluster" in (await nowhere(*asked[name])).stdout
    broken = operator.given(MOORGATE_CLUSTER="none")
    await broken.refuses(*((2, "this command asks a cluster", asked[name]) for name in OF_THE_CLUSTER))


@pytest.mark.cluster
async def test_no_nats(operator: CommandLine, asked: Asked, tmp_path: Path) -> None:
    nobody = f"nats://127.0.0.1:{free_port()}"
    away = operator.given(MOORGATE_NATS_URL=nobody)
    said = f"it does not answer at {nobody}: start it, forward its port, or correct --nats-url"
    await away.refuses(*((3, said, asked[name]) for name in OF_NATS))
    for name in WHOLE:
        assert f"nats is away: it does not answer at {nobody}" in (await away(*asked[name])).stdout
    file = tmp_path / "bootstrap.yaml"
    file.write_text("waitFor: 1s\n")
    settings = {"MOORGATE_BOOTSTRAP_FILE": str(file)}
    answer = await away.given(**settings)(
        *asked["bootstrap"]
    )  # a Job's log: it holds the connection's own lines too
    assert (answer.code, answer.stdout) == (1, "")
    assert answer.stderr.splitlines()[-1].startswith(f"moorgate: NATS does not answer at {nobody}")
    await operator.refuses((2, "MOORGATE_BOOTSTRAP_FILE is not set", asked["bootstrap"]))


@pytest.mark.cluster
async def test_no_rights_in_the_cluster(road: WatchedRoad, operator: CommandLine, asked: Asked) -> None:
    developer = operator.given(KUBECONFIG=str(road.plane.kubeconfig("developer")))
    await developer.refuses(*((3, "you have no right to do that", asked[name]) for name in OF_THE_CLUSTER))
    for name in WHOLE:
        assert "no right" in (await developer(*asked[name])).stdout


@pytest.mark.cluster
async def test_no_rights_on_nats(road: WatchedRoad, operator: CommandLine, asked: Asked) -> None:
    scanner = operator.given(**road.nats.settings("scanner"))
    await scanner.refuses(
        (3, "may not", asked["check"]), (3, "this user of NATS may not do that: ", asked["dead list"])
    )
    stranger = operator.given(MOORGATE_NATS_PASSWORD="wrong")
    await stranger.refuses(
        *((3, "does not accept the user or the password", asked[name]) for name in OF_NATS)
    )
    for name in WHOLE:
        assert (
            "does not accept the user or the password" in (await stranger(*asked[name], "-o", "json")).stdout
        )


@pytest.mark.cluster
async def test_what_is_typed_wrong(operator: CommandLine, asked: Asked, tmp_path: Path) -> None:
    """A kubeconfig that is none, and flags that are none."""
    odd = tmp_path / "kubeconfig"
    odd.write_text("{users: 1}")
    await operator.given(KUBECONFIG=str(odd)).refuses(
        *((2, "no cluster", asked[name]) for name in OF_THE_CLUSTER)
    )
    unknown: list[Any] = [(2, "--nonsense", (*words, "--nonsense")) for words in asked.values()]
    await operator.refuses(*unknown)
    await operator.refuses(*((2, "xml", (*words, "-o", "xml")) for words in asked.values()))
