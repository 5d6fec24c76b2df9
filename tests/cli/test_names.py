"""What a person types as a name: never a whole collection, never another path."""

import itertools
from pathlib import Path

import pytest

from shared.cluster import object_path
from shared.errors import BadSetting
from tests.support.command_line import CommandLine

NO_NAMES = ("", ".", "..", "a/b", "%2e", "-a", "A", "a" * 254, "a?b", "a#b", "a\nb", "ä")


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_no_path(name: str) -> None:
    with pytest.raises(BadSetting, match="is no name of an object"):
        object_path("/api/v1/namespaces", name)


@pytest.mark.parametrize("name", ["a", "web.example", "system:node", "a-1"])
def test_names_are_paths(name: str) -> None:
    assert object_path("/x", name).removeprefix("/x/").replace("%3A", ":") == name


@pytest.mark.cluster
async def test_nothing_is_removed_by_what_is_no_name(moorgate: CommandLine) -> None:
    commands = (("whitelist", "remove"), ("webhooks", "remove"))
    cases = (
        (2, "is no name", (*words, name)) for words, name in itertools.product(commands, ("", ".", "a/b"))
    )
    await moorgate.refuses(*cases)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"just text",
        b"a: [",
        b"\xff\xfe\x00",
        b"clusters: 5\ncurrent-context: x",
        b"!!timestamp x",
    ],
)
async def test_a_broken_kubeconfig_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(content)
    await CommandLine({"KUBECONFIG": str(path)}).refuses(
        (2, "no cluster: ", ("audits",)), (2, "no cluster: ", ("audits", "--all-namespaces"))
    )


async def test_without_a_cluster_none_is_asked() -> None:
    await CommandLine({"MOORGATE_CLUSTER": "none"}).refuses((2, "MOORGATE_CLUSTER is none", ("audits", "-A")))


@pytest.mark.parametrize("setting", ["MOORGATE_NATS_CA_FILE", "MOORGATE_NATS_CREDS_FILE"])
async def test_a_file_of_nats_that_cannot_be_used_is_named(setting: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    command = CommandLine({setting: str(path)})
    await command.refuses((2, setting, ("streams", "apply")), (2, setting, ("check", "nginx")))


async def test_a_password_in_an_address_is_not_shown(tmp_path: Path) -> None:
    command = CommandLine(
        {"MOORGATE_NATS_URL": "nats://operator:s3cr3t@127.0.0.1:1", "KUBECONFIG": str(tmp_path)}
    )
    answer = await command("check", "nginx")
    assert answer.code == 3
    assert "s3cr3t" not in answer.stdout + answer.stderr
