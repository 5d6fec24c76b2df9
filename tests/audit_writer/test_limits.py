"""What is left out of a large decision, and how large a text really is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit_writer.limits import MAX_SPEC_BYTES, cut, kept_images, stored_size
from services.audit_writer.spec import fitted_spec
from shared.contracts import Outcome, Reason
from tests.audit_writer.decisions import decision, image


@pytest.mark.parametrize(
    ("text", "limit", "kept"),
    [
        ("short", 10, "short"),
        ("exactly ten", 11, "exactly ten"),
        ("eleven char", 10, "eleven …"),
        ("<<<<", 12, "<…"),
        ("ééééé", 9, "ééé…"),
        ("", 5, ""),
    ],
)
def test_texts_are_cut_by_their_stored_size(text: str, limit: int, kept: str) -> None:
    assert cut(text, limit) == kept


@given(st.text(), st.integers(3, 200))
def test_a_cut_text_fits_and_begins_like_the_whole(text: str, limit: int) -> None:
    kept = cut(text, limit)
    assert stored_size(Reason(gate=kept, trigger="", action="", text="")) <= limit + len(
        json.dumps({"gate": "", "trigger": "", "action": "", "text": ""}, separators=(",", ":"))
    )
    assert kept == text or text.startswith(kept.removesuffix("…"))


@given(st.text() | st.text(alphabet='<>&\u2028\u2029"é'))
def test_sizes_are_those_of_the_api_servers_json(text: str) -> None:
    """Go's encoder writes these as \\u003c and so on (encoding/json, HTMLEscape)."""
    plain = json.dumps(
        {"gate": text, "trigger": "", "action": "", "text": ""}, ensure_ascii=False, separators=(",", ":")
    )
    for character in "<>&\u2028\u2029":
        plain = plain.replace(character, "\\u0000")
    assert stored_size(Reason(gate=text, trigger="", action="", text="")) == len(plain.encode())


def test_what_fits_is_kept_whole() -> None:
    spec, missing = fitted_spec(decision(images=tuple(image(f"app:{number}") for number in range(50))))
    assert missing == ""
    assert len(spec.images) == 50


def test_findings_go_before_images_and_refusing_images_stay() -> None:
    reasons = tuple(Reason(gate="g", trigger="t", action="stop", text="why " * 60) for _ in range(40))
    many = [image(f"app:{number}", Outcome.FAIL, reasons=reasons) for number in range(30)]
    spec, missing = fitted_spec(decision(images=tuple(many)))
    assert len(spec.images) == 30
    assert "30 images" in missing
    crowd = [image(f"{'x' * 200}:{number}") for number in range(400)]
    crowd[300] = image("bad:1", Outcome.FAIL)
    spec, missing = fitted_spec(decision(images=tuple(crowd)))
    assert "bad:1" in spec.image
    assert 1 < len(spec.images) < 400
    assert stored_size(spec) <= MAX_SPEC_BYTES
    assert missing.startswith("kept of 400 images")


def test_kept_images_stay_in_the_order_of_the_pod() -> None:
    images = (image("a"), image("b", Outcome.FAIL), image("c", Outcome.ERROR), image("d"))
    assert [each.image for each in kept_images(images, 3)] == ["a", "b", "c"]
    assert [each.image for each in kept_images(images, 1)] == ["b"]
