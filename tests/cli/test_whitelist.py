"""`moorgate whitelist` on the running road: what it adds lets a refused release in, and says who, why and until when."""

from datetime import UTC, datetime, timedelta

import pytest

from deploy.dev.kubectl import Kubectl
from tests.support.command_line import CommandLine
from tests.support.road import WatchedRoad, pod, until

pytestmark = pytest.mark.cluster

BAD = "registry.example/bad/let-through:1"


async def test_a_release_is_let_through_for_a_day_and_no_longer(kube: Kubectl, moorgate: CommandLine) -> None:
    release = f"r-{kube.namespace}"
    labels = {"release": release}
    assert (await kube.run("create", "-f", "-", stdin=pod("w1", BAD, labels=labels))).code == 1
    added = await moorgate.ok(
        "whitelist", "add", release, "--reason", "hotfix 4711", "--for", "24h", "-n", kube.namespace
    )
    assert added.stdout.startswith(f"{release} is let through in {kube.namespace}, until ")
    assert added.stdout.endswith("by admin\n")
    assert added.stderr == ""

    async def is_let_in() -> bool:
        return (await kube.run("create", "-f", "-", stdin=pod("w2", BAD, labels=labels))).code == 0

    await until(is_let_in, "let through", seconds=30)

    [item] = [
        each
        for each in (await moorgate.ok("whitelist", "list", "-o", "json")).json()
        if each["name"] == release
    ]
    assert item["inForce"]
    assert (item["spec"]["creator"], item["spec"]["reason"]) == ("admin", "hotfix 4711")
    left = datetime.fromisoformat(item["spec"]["expiresAt"]) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=50) < left <= timedelta(hours=24)

    again = await moorgate("whitelist", "add", release, "--reason", "other")
    assert again.code == 1
    assert f"there is an item {release} already" in again.trouble

    assert (await moorgate.ok("whitelist", "remove", release)).stdout == f"removed {release}\n"
    gone = await moorgate("whitelist", "remove", release)
    assert (gone.code, gone.trouble) == (
        1,
        f"moorgate: there is no item {release}: see moorgate whitelist list",
    )


async def test_an_item_that_counts_everywhere_says_so_and_a_list_shows_what_has_expired(
    kube: Kubectl, moorgate: CommandLine
) -> None:
    release = f"s-{kube.namespace}"
    try:
        added = await moorgate.ok(
            "whitelist", "add", release, "--reason", "x", "--for", "1s", "--image", "*/none/*"
        )
        assert "in every namespace, with */none/*" in added.stdout
        assert "it counts in every namespace" in added.trouble

        async def has_expired() -> bool:
            lines = (await moorgate.ok("whitelist", "list")).stdout.splitlines()
            return any(line.startswith(release) and "EXPIRED" in line for line in lines)

        await until(has_expired, "shown as expired", seconds=30)
    finally:
        await kube.run("delete", "whitelistitem", release)


async def test_each_trouble_is_one_line(road: WatchedRoad, moorgate: CommandLine) -> None:
    add = ("whitelist", "add", "x", "--reason", "y")
    await moorgate.refuses(
        (2, "--reason", add[:3]),
        (2, "--reason is empty", (*add[:4], " ")),
        (2, "--for is '3 days'", (*add, "--for", "3 days")),
        (2, "--for is '0'", (*add, "--for", "0")),
        (2, "metadata.name", ("whitelist", "add", "Not A Name", "--reason", "y")),
        (2, "no regular expression", (*add, "--regexp", "(")),
        (2, "namespaces", (*add, "-n", "UPPER")),
        (2, "say which items", ("whitelist", "remove")),
    )
    developer = moorgate.given(KUBECONFIG=str(road.plane.kubeconfig("developer")))
    forbidden = "you have no right to do that: whitelistitems.security.banzaicloud.com"
    await developer.refuses(
        (3, forbidden, add),
        (3, forbidden, ("whitelist", "list")),
        (3, "no right", ("whitelist", "remove", "x")),
    )
