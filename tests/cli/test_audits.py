"""`moorgate audits` against a real API server and the audit-writer's own Audits: filters, live changes, and what goes wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from deploy.dev.kubectl import Kubectl
from deploy.dev.ports import free_port
from services.cli import audits_feed
from services.cli.audits_feed import Selection
from shared.errors import Refused, Unavailable
from tests.support.command_line import CommandLine
from tests.support.road import WatchedRoad, audit, pod

GOOD, BAD = "nginx:1.25", "registry.example/bad/listed:1"
NOBODY = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u, namespace: shop}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:PORT"}}]
users: [{name: u, user: {}}]
"""


@pytest.fixture
async def decided(kube: Kubectl) -> Kubectl:
    """A namespace where one Pod was let in and one refused."""
    await kube.create(pod("listed-good", GOOD, labels={"release": "shop"}))
    refused = await kube.run("create", "-f", "-", stdin=pod("listed-bad", BAD, labels={"release": "bank"}))
    assert refused.code == 1
    await audit(kube, "pod-listed-good")
    await audit(kube, "pod-listed-bad")
    return kube


def names(shown: list[dict[str, Any]]) -> set[str]:
    return {each["metadata"]["name"] for each in shown}


async def test_they_are_listed_and_chosen(decided: Kubectl, moorgate: CommandLine) -> None:
    here = ("--namespace", decided.namespace)
    shown = (await moorgate.ok("audits", *here)).stdout.splitlines()
    assert shown[0].split() == ["NAMESPACE", "NAME", "RELEASE", "ACTION", "IMAGES", "RESULT", "STATE", "SEEN"]
    assert [line.split()[1] for line in shown[1:]] == ["pod-listed-bad", "pod-listed-good"]
    assert "failed" in shown[1]

    async def chosen(*flags: str) -> set[str]:
        return names((await moorgate.ok("audits", *flags, "-o", "json")).json())

    assert await chosen(*here) == {"pod-listed-good", "pod-listed-bad"}
    assert await chosen(*here, "--state", "rejected") == {"pod-listed-bad"}
    assert await chosen(*here, "--action", "allowed") == {"pod-listed-good"}
    assert await chosen(*here, "--release", "bank") == {"pod-listed-bad"}
    assert await chosen(*here, "--release", "bank", "--action", "allowed") == set()
    assert {"pod-listed-good", "pod-listed-bad"} <= await chosen("-A")
    [found] = yaml.safe_load((await moorgate.ok("audits", *here, "--release", "bank", "-o", "yaml")).stdout)
    assert found["spec"]["images"][0]["reasons"][0]["gate"] == "vulnerabilities"
    nothing = await moorgate.ok("audits", "-n", "kube-public")
    assert nothing.stdout == "no Audits in kube-public\n"


async def test_changes_are_shown_live(decided: Kubectl, moorgate: CommandLine) -> None:
    arguments = ("audits", "-n", decided.namespace, "--watch", "-o", "json", "--action", "allowed")
    async with moorgate.started(*arguments) as child, asyncio.timeout(60):
        assert child.stdout

        async def next_line() -> tuple[str, str]:
            assert child.stdout
            change = json.loads(await child.stdout.readline())
            return change["change"], change["audit"]["metadata"]["name"]

        assert await next_line() == ("there", "pod-listed-good")
        await decided.create(pod("listed-later", GOOD))
        assert await next_line() == ("new", "pod-listed-later")
        await decided.ok("delete", "audit", "pod-listed-good")
        while (said := await next_line()) != ("gone", "pod-listed-good"):
            assert said == ("changed", "pod-listed-later")


async def test_without_a_namespace_the_contexts_own_counts(
    decided: Kubectl, moorgate: CommandLine, tmp_path: Path
) -> None:
    kubeconfig = Path(moorgate.environment["KUBECONFIG"])
    contexts = {"here": decided.namespace, "there": "kube-public"}
    (tmp_path / "config").write_text(with_contexts(kubeconfig, contexts))
    person = moorgate.given(KUBECONFIG=str(tmp_path / "config"))
    assert len(names((await person.ok("audits", "-o", "json")).json())) == 2
    assert (await person.ok("audits", "--context", "there")).stdout == "no Audits in kube-public\n"


def with_contexts(kubeconfig: Path, namespaces: dict[str, str]) -> str:
    """The kubeconfig with a context for each, of its own namespace; the first is the current one."""
    config = yaml.safe_load(kubeconfig.read_text())
    [context] = config["contexts"]
    config["contexts"] = [
        {"name": name, "context": {**context["context"], "namespace": namespace}}
        for name, namespace in namespaces.items()
    ]
    config["current-context"] = next(iter(namespaces))
    return str(yaml.safe_dump(config))


class Away:
    """An API server that answers a list, ends each watch by an error, and has something new at the next list."""

    def __init__(self, *errors: Exception) -> None:
        self.lists = [["a", "b"], ["b", "c"]]
        self.errors = list(errors)

    async def request(self, *_: Any, **__: Any) -> bytes:
        items = [made(name, version=str(10 - len(self.lists))) for name in self.lists.pop(0)]
        return msgspec.json.encode({"items": items, "metadata": {"resourceVersion": "7"}})

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[bytes]:
        if self.errors:
            raise self.errors.pop(0)
        yield msgspec.json.encode({"type": "ADDED", "object": made("d", version="20")})


def made(name: str, version: str) -> dict[str, Any]:
    at = "2026-01-01T00:00:00Z"
    return {
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version},
        "spec": {"releaseName": name, "resource": "Pod"},
        "status": {"state": "admitted", "lastSeen": at, "decision": {"id": "1", "at": at}},
    }


@pytest.mark.parametrize("error", [Refused(410, "too old"), Unavailable("kubernetes", "gone for a while")])
async def test_what_changed_while_nobody_could_look_is_shown(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits_feed, "AGAIN", 0.0)
    cluster: Any = Away(error)
    said: list[str] = []
    found, version = await audits_feed.read(cluster, Selection())
    changes = audits_feed.follow(cluster, Selection(), found, version, said.append)
    shown = {(change.what, change.audit.metadata.name) for change in [await anext(changes) for _ in range(4)]}
    assert shown == {("gone", "a"), ("changed", "b"), ("new", "c"), ("new", "d")}
    assert len(said) == isinstance(error, Unavailable)
    await changes.aclose()


async def test_a_right_that_is_taken_away_ends_it() -> None:
    cluster: Any = Away(Refused(403, "no"))
    changes = audits_feed.follow(cluster, Selection(), [], "7", pytest.fail)
    with pytest.raises(Refused):
        await anext(changes)


async def test_each_trouble_is_one_line(
    road: WatchedRoad, moorgate: CommandLine, tmp_path: Path, kube: Kubectl
) -> None:
    developer = moorgate.given(KUBECONFIG=str(road.plane.kubeconfig("developer")))
    forbidden = await developer("audits", "-A")
    assert (forbidden.code, forbidden.stdout) == (3, "")
    assert "you have no right to do that: audits.security.banzaicloud.com is forbidden" in forbidden.trouble

    (tmp_path / "config").write_text(NOBODY.replace("PORT", str(free_port())))
    nobody = await moorgate.given(KUBECONFIG=str(tmp_path / "config"))("audits")
    assert nobody.code == 3
    assert "the cluster does not answer" in nobody.trouble

    await moorgate.refuses(
        (2, "no cluster", ("audits", "--context", "nope")),
        (2, "--state", ("audits", "--state", "fine")),
        (2, "--nonsense", ("audits", "--nonsense")),
        (2, "--namespace is '../x'", ("audits", "-n", "../x")),
        (2, "not both", ("audits", "-n", kube.namespace, "-A")),
    )
    await moorgate.given(KUBECONFIG="/nowhere").refuses((2, "no cluster", ("audits",)))
