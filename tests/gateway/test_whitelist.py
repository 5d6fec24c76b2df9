"""Which items cover a release: labels, fake releases, patterns, and every way to narrow an item."""

from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.workloads import Workload
from shared.contracts import OwnerClaim
from shared.crds import WhiteListItem
from shared.releases import Release, release_of
from shared.whitelist import Whitelist, covers_image
from tests.support.builders import START, at, whitelist_item

LABELS = ("release", "app.kubernetes.io/instance")
OWNER = OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name="web-5cd466fccb", uid="u")


def workload(name: str = "web-5cd466fccb-x2x4z", owner: OwnerClaim | None = None, **labels: str) -> Workload:
    named = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    return Workload(kind="Pod", namespace="shop", name=name, uid="u", labels=named, owner=owner, images=())


def release(name: str, *, is_fake: bool = False) -> Release:
    return Release(name=name, is_fake=is_fake, recorded=name)


def covering(
    items: list[WhiteListItem], sought: Release, namespace: str = "shop", *, cluster_wide: bool = True
) -> list[str]:
    whitelist = Whitelist(cluster_wide=cluster_wide)
    whitelist.replace(items)
    return [item.metadata.name for item in whitelist.covering(sought, namespace, START)]


def test_the_label_release_comes_first() -> None:
    both = workload(release="shop", app_kubernetes_io__instance="other")
    assert release_of(both, LABELS) == Release(name="shop", is_fake=False, recorded="shop")
    assert release_of(both, LABELS[::-1]).name == "other"


def test_the_instance_label_counts_where_there_is_no_release() -> None:
    found = release_of(workload(app_kubernetes_io__instance="other", owner=OWNER), LABELS)
    assert found == Release(name="other", is_fake=False, recorded="other")


def test_without_a_label_the_pods_name_is_matched_and_its_controllers_recorded() -> None:
    alone = workload("web-0")
    assert release_of(alone, LABELS) == Release(name="web-0", is_fake=True, recorded="web-0")
    owned = workload(owner=OWNER)
    expected = Release(name="web-5cd466fccb-x2x4z", is_fake=True, recorded="web-5cd466fccb")
    assert release_of(owned, LABELS) == expected


def test_an_empty_label_names_no_release() -> None:
    assert release_of(workload("web-0", release=""), LABELS).is_fake


@pytest.mark.parametrize(
    ("sought", "is_fake", "expected"),
    [
        ("web", False, ["web"]),
        ("web", True, ["web"]),
        ("web-5cd466fccb-x2x4z", True, ["web"]),
        ("web-5cd466fccb-x2x4z", False, []),
        ("website-5cd466fccb-x2x4z", True, []),
        ("website", True, []),
        ("web.v1-x", True, []),
        ("web--x", True, ["web"]),
        ("my-web-0", True, []),
        ("-web", True, []),
        ("we", True, []),
        ("", True, []),
    ],
)
def test_an_item_covers_its_own_name_and_fake_releases_that_begin_with_it(
    sought: str, expected: list[str], *, is_fake: bool
) -> None:
    assert covering([whitelist_item("web")], release(sought, is_fake=is_fake)) == expected


def test_every_prefix_up_to_a_dash_is_looked_up_in_order_of_names() -> None:
    items = [whitelist_item(name) for name in ("web-shop", "web", "web-shop-0", "shop")]
    assert covering(items, release("web-shop-0", is_fake=True)) == ["web", "web-shop", "web-shop-0"]


@pytest.mark.parametrize(
    ("pattern", "sought", "is_covered"),
    [
        ("web", "web", True),
        ("web", "web-1", False),
        ("web", "my-web", False),
        ("web-.*", "web-1", True),
        ("web|shop", "shop", True),
        ("web|shop", "web-shop", False),
        ("^web$", "web", True),
        ("(?i)WEB", "web", True),
        ("", "anything", False),
        (".*", "", True),
        ("we.", "web\n", False),
    ],
)
def test_a_pattern_is_matched_against_the_whole_name(pattern: str, sought: str, *, is_covered: bool) -> None:
    found = covering([whitelist_item("item", regexp=pattern)], release(sought))
    assert found == (["item"] if is_covered else [])


def test_an_item_with_a_pattern_does_not_cover_its_own_name() -> None:
    assert covering([whitelist_item("web", regexp="shop")], release("web")) == []
    assert covering([whitelist_item("web", regexp="shop")], release("web-0", is_fake=True)) == []


def test_a_fake_release_is_matched_whole_by_a_pattern() -> None:
    item = [whitelist_item("item", regexp="web-[a-z0-9]+-[a-z0-9]+")]
    assert covering(item, release("web-5cd466fccb-x2x4z", is_fake=True)) == ["item"]
    assert covering(item, release("web-5cd466fccb-x2x4z-1", is_fake=True)) == []


@pytest.mark.parametrize("bad", ["(", "(?<=x)y", "\\", "a**", "(?P<n>", "x{1001}"])
def test_a_pattern_that_cannot_be_read_covers_nothing_and_spares_the_others(bad: str) -> None:
    items = [whitelist_item("a-good", regexp="web.*"), whitelist_item("bad", regexp=bad)]
    items += [whitelist_item("good", regexp=".*b")]
    assert covering(items, release("web")) == ["a-good", "good"]
    assert covering(items, release(bad)) == []


def test_a_pattern_that_cannot_be_read_is_named_in_the_log() -> None:
    with structlog.testing.capture_logs() as lines:
        covering([whitelist_item("good", regexp="web"), whitelist_item("bad", regexp="(")], release("web"))
    [line] = lines
    assert "'('" in line.pop("error")
    assert line == {"event": "bad_pattern", "item": "bad", "part": "whitelist", "log_level": "error"}


def test_patterns_are_compiled_once_for_many_questions() -> None:
    whitelist = Whitelist(cluster_wide=True)
    whitelist.replace([whitelist_item("item", regexp="web")])
    assert whitelist._compiled() is whitelist._compiled()


@pytest.mark.parametrize(
    ("expires", "expected"),
    [(None, ["web"]), (at(1), ["web"]), (START, []), (at(-1), [])],
)
def test_an_item_counts_until_it_expires(expires: Any, expected: list[str]) -> None:
    assert covering([whitelist_item(expires_at=expires)], release("web")) == expected
    assert covering([whitelist_item("web", regexp="w.b", expires_at=expires)], release("web")) == expected


def test_an_item_with_namespaces_counts_only_there() -> None:
    narrow = [whitelist_item(namespaces=("shop", "test"))]
    assert covering(narrow, release("web"), "shop") == ["web"]
    assert covering(narrow, release("web"), "test", cluster_wide=False) == ["web"]
    assert covering(narrow, release("web"), "shop-2") == []
    assert covering(narrow, release("web"), "") == []


def test_items_without_namespaces_can_be_switched_off() -> None:
    items = [whitelist_item("web"), whitelist_item("item", regexp="w.*")]
    assert covering(items, release("web")) == ["item", "web"]
    assert covering(items, release("web"), cluster_wide=False) == []


def test_the_index_follows_the_feed() -> None:
    whitelist = Whitelist(cluster_wide=True)

    def names(sought: str) -> list[str]:
        return [item.metadata.name for item in whitelist.covering(release(sought), "shop", START)]

    whitelist.put(whitelist_item("item", regexp="web"))
    assert (names("web"), len(whitelist)) == (["item"], 1)
    whitelist.put(whitelist_item("item", regexp="shop"))
    assert (names("web"), names("shop")) == ([], ["item"])
    whitelist.put(whitelist_item("other", regexp="shop"))
    whitelist.remove(whitelist_item("item"))
    whitelist.remove(whitelist_item("never-there"))
    assert (names("shop"), len(whitelist)) == (["other"], 1)
    whitelist.remove(whitelist_item("other"))
    assert (names("shop"), len(whitelist)) == ([], 0)
    whitelist.put(whitelist_item("item", regexp="shop"))
    assert names("shop") == ["item"]
    whitelist.replace([whitelist_item("web")])
    assert (names("shop"), names("web"), len(whitelist)) == ([], ["web"], 1)


@pytest.mark.parametrize(
    ("globs", "is_covered"),
    [
        ((), True),
        (("docker.io/library/nginx:*",), True),
        (("nginx:1.27",), True),
        (("*/nginx:1.27",), True),
        (("docker.io/*",), True),
        (("nginx",), False),
        (("docker.io/library/nginx",), False),
        (("NGINX:*",), False),
        (("r.example/*", "nginx*"), True),
        (("[",), False),
    ],
)
def test_an_item_with_images_covers_those_alone(globs: tuple[str, ...], *, is_covered: bool) -> None:
    item = whitelist_item(images=globs)
    assert covers_image(item, "docker.io/library/nginx:1.27", "nginx:1.27") is is_covered


@given(st.text("ab-.", max_size=8), st.text("ab-.", min_size=1, max_size=5))
@settings(deadline=None)
def test_the_rule_for_fake_releases_holds_for_any_name(sought: str, name: str) -> None:
    expected = sought == name or (sought.startswith(f"{name}-"))
    assert covering([whitelist_item(name)], release(sought, is_fake=True)) == ([name] if expected else [])


def test_more_patterns_than_one_automaton_takes_all_count() -> None:
    """RE2 refuses to compile so many together: that would have failed every admission of the cluster."""
    items = [whitelist_item(f"i{number}", regexp=f".*{number}.*[a-z]{{50}}") for number in range(2500)]
    found = covering(items, release("2042-" + "a" * 50))
    assert found == sorted(["i0", "i2", "i4", "i20", "i42", "i204", "i2042"])


def test_a_pattern_too_large_for_any_automaton_covers_nothing_and_spares_the_others() -> None:
    large = whitelist_item("large", regexp=r"(?:\p{L}{100}){10}" * 40)
    assert covering([large, whitelist_item("small", regexp="w.b")], release("web")) == ["small"]
