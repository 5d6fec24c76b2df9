"""Logins of dockerconfigjson Secrets, as people and tools write them."""

import base64
import json

import pytest

from services.cli.bootstrap.dockerconfig import BadDockerConfig, read_logins, registry_name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
        ("https://registry-1.docker.io/v2/", "docker.io"),
        ("ghcr.io", "ghcr.io"),
        ("Registry.Example:5000", "registry.example:5000"),
        ("https://registry.example/", "registry.example"),
        ("http://registry.example/v2", "registry.example"),
        ("registry.example/team", "registry.example/team*"),
        ("https://index.docker.io/v1/library", "docker.io/v1/library*"),
    ],
)
def test_names(key: str, name: str) -> None:
    assert registry_name(key) == name


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_credentials() -> None:
    auths = {
        "both.example": {"username": "u", "password": "p:w"},
        "auth.example": {"auth": encoded("u:p:w")},
        "empty.example": {},
        "null.example": None,
        "token.example": {"identitytoken": "t", "auth": encoded("u:")},
        "broken.example": {"auth": "%%%"},
        "*.example": {"auth": encoded("u:p")},
    }
    logins, faults = read_logins(json.dumps({"auths": auths}))
    assert [(each.registry, each.username, each.password.reveal()) for each in logins] == [
        ("both.example", "u", "p:w"),
        ("auth.example", "u", "p:w"),
    ]
    assert [line.partition(":")[0] for line in faults] == [
        *("empty.example", "null.example", "token.example", "broken.example", "*.example"),
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"auths": []}', '{"other": {}}'])
def test_what_is_no_docker_configuration(text: str) -> None:
    with pytest.raises(BadDockerConfig) as caught:
        read_logins(text)
    assert not text or text not in str(caught.value)
