"""What whoever creates a Pod writes stays what it is: no other release, subject, key, path, header, label or log line."""

import io
import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from services.scanner.anchore_v1 import AnchoreV1
from services.scanner.anchore_v2 import AnchoreV2
from shared import images, logs, subjects
from shared.broker import Broker
from shared.contracts import Result, ScanRequest
from shared.errors import BadImage
from shared.logs import LogFormat, LogLevel
from tests.fuzz.checks import check_line, check_subject
from tests.gateway.test_webhook import Gateway, post
from tests.support.anchore_client import NOT_UNDERSTOOD, always, calls_of, outcome
from tests.support.builders import DIGEST, TAG, pod, review, whitelist_item

COVERED, OTHER = "bad:1", "worse:1"
FORGED = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": True}

NASTY = (
    "a.>", "*", ">", "a.*", "a b", "a\nb", "a\r\nNats-Msg-Id: x", "a\x00b", "a\x1b[2Jb", "a\u202eb", "$KV.moorgate_verdicts.x",
    "../../etc/passwd", "a/../../x", "a?x=1", "a#x", "a%2f..%2fx", "a@b", "http://x/a", "a:1@sha256:" + "z" * 64,
    "x" * 5000, '"}', "a;b", "a\u2028b", "\ud83d\ude00", "a\tb", " a", "a ", "a\\b", "{{a}}", "${a}", "a:" + "." * 10,
)  # fmt: skip


@pytest.mark.parametrize(
    "forged",
    [
        pod(COVERED, labels={"release": "web"}),
        pod(COVERED, labels={"app.kubernetes.io/instance": "web"}),
        pod(COVERED, name="web"),
        pod(COVERED, name="web-5cd466fccb-x2x4z"),
        pod(COVERED, name="web-0", ownerReferences=[FORGED]),
        pod(COVERED, name="x", ownerReferences=[{**FORGED, "kind": "HelmRelease"}]),
        {**pod(COVERED, labels={"release": "web"}, namespace="ops")},
        pod(COVERED, annotations={"meta.helm.sh/release-namespace": "ops"}, labels={"release": "web"}),
    ],
    ids=["label", "instance", "name", "a name below it", "owner", "odd owner", "namespace", "annotation"],
)
async def test_a_pod_outside_an_items_namespaces_or_images_cannot_use_it(forged: dict[str, Any]) -> None:
    gateway = Gateway()
    for each in (COVERED, OTHER):
        gateway.know(each, Result.FAIL)
    gateway.whitelist.put(whitelist_item("web", namespaces=("ops",), images=("docker.io/library/bad:*",)))
    inside = json.loads(json.dumps(forged).replace(COVERED, OTHER))
    async with gateway.serving() as client:
        for namespace, asked in (("shop", forged), ("ops", inside)):
            _, answer = await post(client, review(asked, namespace=namespace))
            assert answer["response"]["allowed"] is False, namespace
            assert answer["response"]["status"]["code"] == 403
        released = pod(COVERED, labels={"release": "web"})
        _, answer = await post(client, review(released, namespace="ops"))
        assert answer["response"]["allowed"] is True, (
            "inside, whoever may create Pods may use it: SECURITY.md says so"
        )


@pytest.mark.parametrize("written", NASTY, ids=ascii)
async def test_an_image_reaches_into_nothing(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, ScanRequest]] = []

    async def publish(_: Broker, subject: str, request: ScanRequest, trace: str = "") -> bool:
        del trace
        sent.append((subject, request))
        return True

    monkeypatch.setattr(Broker, "is_connected", property(lambda _: True))
    monkeypatch.setattr(Broker, "publish_unless_waiting", publish)
    gateway = Gateway()
    async with gateway.serving() as client:
        response = await _answer(client, written)
    check_line(response.get("status", {}).get("message", ""), 1024)
    for text in response.get("auditAnnotations", {}).values():
        check_line(text, 1024)
    for subject, request in sent:
        check_subject(subject, 6)
        assert str(images.parse(request.image)) == request.image, "only what is a reference is asked for"
    for event in gateway.recorded:
        assert subjects.decision_subject(event.namespace) == "moorgate.v1.event.decision.shop"
    if response:
        _check_metrics(gateway, written)


async def _answer(client: TestClient[Any, Any], written: str) -> dict[str, Any]:
    asked = json.dumps(review(pod(written), operation="CREATE"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )
    async with client.post(
        "/imagecheck?timeout=600ms", data=asked, headers={"Content-Type": "application/json"}
    ) as answer:
        if answer.status != 200:
            check_line((await answer.text()).removesuffix("\n"))
            return {}
        found: dict[str, Any] = (await answer.json())["response"]
        assert found["allowed"] is False
        return found


def _check_metrics(gateway: Gateway, written: str) -> None:
    families = [
        family
        for each in vars(gateway.metrics).values()
        if hasattr(each, "collect")
        for family in each.collect()
    ]
    values = {value for family in families for sample in family.samples for value in sample.labels.values()}
    assert "CREATE" in values
    assert not any(written in value for value in values)


@pytest.mark.parametrize(
    "digest", [f"{DIGEST}\n", f"{DIGEST}/../x", "sha256:*", ">", f"{DIGEST} x", "x" * 64]
)
async def test_a_digest_that_is_none_is_not_taken_from_an_answer(digest: str) -> None:
    first = [{"imageDigest": digest, "analysis_status": "analyzed", "image_detail": [{"fulltag": TAG}]}]
    listed = [{**first[0], "imageDigest": DIGEST, "parentDigest": digest}]
    second = {"image_digest": DIGEST, "parent_digest": digest, "analysis_status": "analyzed"}
    reference = images.parse(TAG)
    for body in (first, listed):
        async with calls_of(always(200, body)) as (calls, _):
            assert await outcome(AnchoreV1(calls).add_image(reference)) == NOT_UNDERSTOOD
    async with calls_of(always(200, second)) as (calls, _):
        assert await outcome(AnchoreV2(calls).add_image(reference)) == NOT_UNDERSTOOD


async def test_what_is_asked_of_anchore_has_the_path_that_was_meant() -> None:
    for text in (TAG, f"r.example:5000/a/b@{DIGEST}", "localhost/a__b/c-d:T_1.2-3", "[::1]:5000/a:1"):
        reference = images.parse(text)
        async with calls_of(always(404, {"message": "x"})) as (calls, journal):
            await outcome(AnchoreV1(calls).check(DIGEST, reference, "bundle/../x?y#z\r\nA: b"))
            await outcome(AnchoreV2(calls).image(DIGEST))
        assert [each.path for each in journal] == [f"/v1/images/{DIGEST}/check", f"/v2/images/{DIGEST}"]
        assert journal[0].query["policyId"] == "bundle/../x?y#z\r\nA: b"
        assert "A" not in journal[0].headers


@pytest.mark.parametrize("form", LogFormat)
@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_a_log_line_stays_one_line(form: LogFormat, text: str) -> None:
    stream = io.StringIO()
    logs.set_up(LogLevel.INFO, form, stream)
    with logs.bind(image=text):
        logs.logger("x").info("event", error=text, name=text)
    line = stream.getvalue().removesuffix("\n")
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b[2J" not in line


def test_none_of_them_is_a_reference_but_by_what_it_says() -> None:
    taken = set()
    for text in NASTY:
        try:
            taken.add(str(images.parse(text)))
        except BadImage:
            continue
    assert taken == set()
