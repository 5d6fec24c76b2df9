"""AdmissionReviews in and out: whatever comes, it decodes or is a BadReview of one line."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.gateway.admission import BadReview, allow, decode_review, deny, encode_answer
from services.gateway.workloads import extract
from tests.support.builders import TYPES, holder, pod, review

BODY = json.dumps(review(pod("nginx:1.27", "redis:7", labels={"release": "web"}))).encode()
DEEP = 100_000

GARBAGE = {
    "empty": b"",
    "blank": b"  \n",
    "text": b"hello",
    "html": b"<html></html>",
    "null": b"null",
    "number": b"1",
    "list": b"[]",
    "no fields": b"{}",
    "truncated": BODY[:-1],
    "trailing": BODY + b"x",
    "two": BODY + BODY,
    "wrong UTF-8": BODY.replace(b"nginx", b"ng\xff\xfex"),
    "UTF-16": BODY.decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + BODY,
    "deep list": b"[" * DEEP + b"]" * DEEP,
    "deep object": b'{"request":' * DEEP + b"1" + b"}" * DEEP,
    "deep unknown field": b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"," + BODY[1:],
    "deep object field": BODY.replace(b'"oldObject": null', b'"oldObject": ' + b"[" * DEEP + b"]" * DEEP),
    "huge number": BODY.replace(b'"dryRun": false', b'"dryRun": ' + b"9" * 5000),
    "lone surrogate": BODY.replace(b"nginx", b"\\ud800"),
    "NaN": BODY.replace(b'"dryRun": false', b'"dryRun": NaN'),
}


def read(body: bytes) -> None:
    """The whole way of a body: the envelope, then the object."""
    request, _ = decode_review(body)
    extract(request)


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_bad_review_of_one_line(body: bytes) -> None:
    with pytest.raises(BadReview) as caught:
        read(body)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "Pod"},
        {"kind": None},
        {"apiVersion": "admission.k8s.io/v2"},
        {"apiVersion": "v1"},
        {"apiVersion": 1},
        {"request": None},
        {"request": []},
        {"request": {}},
        {"request": {"uid": "u"}},
    ],
)
def test_an_envelope_that_is_none_is_a_bad_review(change: dict[str, Any]) -> None:
    with pytest.raises(BadReview):
        decode_review(json.dumps({**review(pod("nginx")), **change}).encode())


@pytest.mark.parametrize(
    "field",
    [
        {"uid": ""},
        {"uid": 1},
        {"uid": None},
        {"kind": None},
        {"operation": None},
        {"operation": 1},
        {"namespace": ["shop"]},
        {"userInfo": "alice"},
        {"userInfo": {"username": 1}},
        {"dryRun": "yes"},
        {"subResource": {}},
    ],
)
def test_a_request_of_the_wrong_shape_is_a_bad_review(field: dict[str, Any]) -> None:
    with pytest.raises(BadReview):
        decode_review(json.dumps(review(pod("nginx"), **field)).encode())


def test_fields_of_later_versions_are_none_of_our_business() -> None:
    later = review(pod("nginx"), newField={"a": [1]}, options={"kind": "CreateOptions"})
    request, _ = decode_review(json.dumps({**later, "newField": 1}).encode())
    assert request.uid == later["request"]["uid"]


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_arbitrary_bytes_decode_or_are_a_bad_review(body: bytes) -> None:
    with contextlib.suppress(BadReview):
        read(body)


@given(st.lists(st.tuples(st.integers(0, len(BODY) - 1), st.binary(max_size=4)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=300)
def test_damaged_reviews_decode_or_are_a_bad_review(damages: list[tuple[int, bytes]]) -> None:
    body = BODY
    for place, inserted in damages:
        body = body[:place] + inserted + body[place + len(inserted) :]
    with contextlib.suppress(BadReview):
        read(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(TYPES)), st.data())
@settings(deadline=None, max_examples=300)
def test_reviews_with_any_value_anywhere_decode_or_are_a_bad_review(kind: str, data: st.DataObject) -> None:
    whole = review(holder(kind, "nginx", "redis"), kind=kind, operation="UPDATE", oldObject=holder(kind, "a"))
    place: Any = whole
    key = data.draw(st.sampled_from(sorted(whole)))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.integers(0, 4)):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(JSON)
    with contextlib.suppress(BadReview):
        read(json.dumps(whole).encode())


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_the_answer_has_the_version_of_the_question(version: str) -> None:
    request, found = decode_review(json.dumps(review(pod("nginx"), version=version)).encode())
    answered = json.loads(encode_answer(allow(request.uid, ["mind"], {"decision": "allowed"}), found))
    assert answered == {
        "apiVersion": f"admission.k8s.io/{version}",
        "kind": "AdmissionReview",
        "response": {
            "uid": request.uid,
            "allowed": True,
            "warnings": ["mind"],
            "auditAnnotations": {"decision": "allowed"},
        },
    }


@pytest.mark.parametrize(
    ("code", "reason", "retry_after"),
    [
        (403, "Forbidden", 0),
        (429, "TooManyRequests", 7),
        (429, "TooManyRequests", 0),
        (503, "ServiceUnavailable", 0),
    ],
)
def test_a_refusal_is_a_status_that_clients_understand(code: int, reason: str, retry_after: int) -> None:
    encoded = encode_answer(deny("u", code, "because", {}, retry_after), "admission.k8s.io/v1")
    status = {"code": code, "message": "because", "reason": reason}
    if retry_after:
        status["details"] = {"retryAfterSeconds": retry_after}
    response = json.loads(encoded)["response"]
    assert response.pop("status").items() >= status.items()
    assert response == {"uid": "u", "allowed": False}
    assert (b"details" in encoded) is bool(retry_after)


@given(st.text())
@example("\x00\u2028\U0001f600")
@settings(deadline=None)
def test_whatever_an_answer_says_is_json(text: str) -> None:
    answered = json.loads(encode_answer(deny("u", 403, text, {text: text}), "admission.k8s.io/v1"))
    assert answered["response"]["status"]["message"] == text
