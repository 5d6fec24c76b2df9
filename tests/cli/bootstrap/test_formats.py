"""Bundles in both spellings: nothing that either API knows is lost on the way, and equal bundles are equal values."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.bootstrap import formats
from services.cli.bootstrap.bundles import PREDEFINED, predefined
from shared.anchore import AnchoreApi

V1, V2 = AnchoreApi.V1, AnchoreApi.V2
FOLDER = Path(__file__).parents[3] / "services" / "cli" / "bundles"
DEFAULT = Path(__file__).parents[3] / "deploy" / "dev" / "anchore" / "default_bundle.json"

EVERYTHING: dict[str, Any] = {
    "id": "b",
    "name": "B",
    "comment": "all that v1 has",
    "version": "1_0",
    "policies": [
        {
            "id": "p",
            "name": "P",
            "comment": "c",
            "version": "1_0",
            "rules": [
                {
                    "id": "r",
                    "gate": "dockerfile",
                    "trigger": "effective_user",
                    "action": "STOP",
                    "params": [
                        {"name": "users", "value": "blacklist"},
                        {"name": "type", "value": "whitelist"},
                    ],
                },
                {
                    "id": "s",
                    "gate": "npms",
                    "trigger": "blacklisted_name_version",
                    "action": "GO",
                    "params": [],
                },
            ],
        }
    ],
    "whitelists": [
        {
            "id": "w",
            "name": "W",
            "version": "1_0",
            "items": [
                {
                    "id": "i",
                    "gate": "vulnerabilities",
                    "trigger_id": "CVE-1+*",
                    "expires_on": "2027-01-01T00:00:00Z",
                }
            ],
        }
    ],
    "mappings": [
        {
            "id": "m",
            "name": "M",
            "registry": "*",
            "repository": "*",
            "image": {"type": "tag", "value": "*"},
            "policy_ids": ["p"],
            "whitelist_ids": ["w"],
        }
    ],
    "whitelisted_images": [
        {
            "id": "a",
            "name": "A",
            "registry": "r",
            "repository": "x",
            "image": {"type": "digest", "value": "sha256:0"},
        }
    ],
    "blacklisted_images": [
        {"id": "d", "name": "D", "registry": "r", "repository": "y", "image": {"type": "id", "value": "0"}}
    ],
}


def test_all_of_v1_comes_back_from_v2() -> None:
    through_v2 = formats.read(formats.write(formats.read(EVERYTHING), V2))
    assert formats.write(through_v2, V1) == EVERYTHING


def test_v2_says_deny_and_allow_only_where_its_words_stand() -> None:
    policy = formats.write(formats.read(EVERYTHING), V2)
    first, second = policy["rule_sets"][0]["rules"]
    assert [each["value"] for each in first["params"]] == ["blacklist", "allowlist"]
    assert second["trigger"] == "denylisted_name_version"
    assert policy["version"] == policy["rule_sets"][0]["version"] == policy["allowlists"][0]["version"] == "2"
    assert (policy["description"], policy["rule_sets"][0]["description"]) == ("all that v1 has", "c")
    assert (policy["allowlisted_images"][0]["id"], policy["denylisted_images"][0]["id"]) == ("a", "d")


def test_what_a_server_adds_or_leaves_out_makes_no_difference() -> None:
    shown = {**EVERYTHING, "active": True, "last_updated": 1795446004, "description": "the record's"}
    del shown["whitelists"]
    assert formats.read(shown) == formats.read({**EVERYTHING, "whitelists": []})


@pytest.mark.parametrize(
    "path", [DEFAULT, *(FOLDER / f"{name}.json" for name in PREDEFINED)], ids=lambda path: path.stem
)
def test_shipped_bundles_are_the_same_in_both_formats(path: Path) -> None:
    bundle = formats.read(json.loads(path.read_text()))
    assert bundle.has_catch_all
    for api in (V1, V2):
        assert formats.read(formats.write(bundle, api)) == bundle


def test_the_shipped_copy_is_v1_as_we_would_write_it() -> None:
    for name in PREDEFINED:
        shipped = json.loads((FOLDER / f"{name}.json").read_text())
        assert shipped["id"] == name
        written = formats.write(predefined(name), V1)
        assert formats.read(shipped) == formats.read(written)
        assert {part["version"] for part in (shipped, *shipped["policies"])} == {"1_0"}


def test_an_expiry_taken_away_is_a_difference() -> None:
    changed = json.loads(json.dumps(EVERYTHING))
    del changed["whitelists"][0]["items"][0]["expires_on"]
    assert formats.read(changed) != formats.read(EVERYTHING)


def test_a_broken_bundle_names_its_field() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"trigger.*rules\[0\]"):
        formats.read({**EVERYTHING, "policies": [{"id": "p", "rules": [{"gate": "x", "action": "STOP"}]}]})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "policies", "rule_sets", "mappings", "rules", "params", "comment", "policy_id"]
                ),
                inner,
                max_size=5,
            )
        ),
    )
)
def test_nothing_breaks_the_reader_but_by_its_own_error(document: object) -> None:
    try:
        bundle = formats.read(document)
    except msgspec.ValidationError:
        return
    assert formats.read(formats.write(bundle, V2)) == bundle
