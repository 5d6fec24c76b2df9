"""The content hash of a bundle: the same for the same content, another for any other."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scanner.anchore import Bundle
from services.scanner.anchore_v1_api import POLICIES
from services.scanner.bundles import content_hash
from tests.support.anchore import bundle, rule

BUNDLE = bundle(rule("vulnerabilities", "package", severity="high"), rule("dockerfile", "exposed_ports"))


def hashed(content: dict[str, Any], *, is_active: bool = False) -> str:
    return content_hash(Bundle(bundle_id="b", content=content, is_active=is_active))


def turned(content: Any) -> Any:
    """The same JSON with the keys of every object in the opposite order."""
    if isinstance(content, dict):
        return {name: turned(content[name]) for name in reversed(content)}
    return [turned(each) for each in content] if isinstance(content, list) else content


def test_the_order_of_keys_does_not_count() -> None:
    assert list(turned(BUNDLE)) != list(BUNDLE)
    assert hashed(turned(BUNDLE)) == hashed(BUNDLE)


def test_what_anchore_adds_does_not_count() -> None:
    stored = {**BUNDLE, "active": True, "last_updated": 1790000000}
    assert hashed(stored) == hashed(BUNDLE)
    assert hashed({**stored, "active": False}) == hashed(BUNDLE)
    assert hashed(BUNDLE, is_active=True) == hashed(BUNDLE)


def test_only_the_outermost_additions_are_left_out() -> None:
    """A field of that name inside the bundle is the user's own."""
    [policy] = BUNDLE["policies"]
    assert hashed({**BUNDLE, "policies": [{**policy, "active": False}]}) != hashed(BUNDLE)


@pytest.mark.parametrize("field", sorted(BUNDLE))
def test_every_part_of_the_content_counts(field: str) -> None:
    assert hashed({**BUNDLE, field: "something else"}) != hashed(BUNDLE)


def test_the_order_of_rules_counts() -> None:
    """Mappings are evaluated in order, so another order is another content."""
    [policy] = BUNDLE["policies"]
    shuffled = {**policy, "rules": list(reversed(policy["rules"]))}
    assert hashed({**BUNDLE, "policies": [shuffled]}) != hashed(BUNDLE)


def test_the_hash_is_a_sha256_that_never_changes_between_versions() -> None:
    """Verdicts in the bucket carry it: another way of hashing makes all of them stale at an upgrade."""
    expected = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert hashed({}) == expected
    umlaut = hashed({"id": "ä", "policies": [1, 2.5, None, True]})
    assert umlaut == "33b5577476e10ef39708472a76da36beaddf94dbfbd3038c80da9d67908c68d1"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), values))
def test_any_bundle_hashes_alike_after_a_way_over_the_wire(content: dict[str, Any]) -> None:
    body = msgspec.json.encode([{"policyId": "b", "active": True, "policybundle": turned(content)}])
    [record] = POLICIES.decode(body)
    assert hashed(record.policybundle or {}) == hashed(content)
