"""What the scanner's client makes of the answers of a real Anchore Engine: one row a record, and what it must come to.

A server gives each recorded answer back (status, headers, body) to the client's own request for
it; what the client was asked in the recording decides only for which image, tag and bundle it asks here.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
import yaml
from aiohttp import web

from services.scanner import anchore, anchore_v1_api
from services.scanner.anchore_v1 import AnchoreV1
from shared import anchore as transport
from shared import images
from shared.anchore import AnchoreSettings
from shared.errors import Unavailable
from shared.settings import Secret
from tests.support.anchore_client import (
    ABSENT,
    BUNDLE_UNKNOWN,
    NOT_ANALYZED,
    NOT_UNDERSTOOD,
    TRY_AGAIN,
    UNAUTHORIZED,
    UNSUPPORTED,
    Sent,
    always,
    calls_of,
    outcome,
)
from tests.support.recordings import FOLDER, WEB, Recording, load

RECORDINGS = {recording.number: recording for recording in load()}
API_DESCRIPTION = FOLDER.parent / "engine-v1.swagger.yaml"

needs_recordings = pytest.mark.skipif(
    not RECORDINGS, reason=f"the recordings of a real Anchore Engine are not beside the repository ({FOLDER})"
)

DEFAULT = "2c53a13c-1765-11e8-82ef-23527761d060"

PORT_22 = "dockerfile/exposed_ports"

EXPECTED: dict[int, str] = {
    # adding an image
    15: UNAUTHORIZED,
    49: "ScanFailed image_not_found",
    50: "ScanFailed image_not_found",
    51: "ScanFailed registry_unavailable",
    52: NOT_UNDERSTOOD,  # the schema's refusals: our request is at fault, not the image
    53: UNSUPPORTED,  # the Engine's own: it cannot take this name
    54: NOT_UNDERSTOOD,
    55: NOT_UNDERSTOOD,
    56: NOT_UNDERSTOOD,
    57: UNSUPPORTED,
    58: UNSUPPORTED,
    59: NOT_UNDERSTOOD,
    60: NOT_UNDERSTOOD,
    61: UNSUPPORTED,
    62: "image f9d5ec0f f9d5ec0f not_analyzed team/debian:12",
    63: "image a5c5f773 a5c5f773 not_analyzed library/busybox:1.36",
    70: "image a5c5f773 a5c5f773 not_analyzed library/busybox:1.36",
    74: "image f9d5ec0f f9d5ec0f analyzing team/debian:12",
    77: "image e54fd5bd e54fd5bd not_analyzed team/sshd:1.0",
    78: "image cf875588 cf875588 not_analyzed team/web:1.0",
    88: "image a5c5f773 a5c5f773 analyzed library/busybox:1.36",
    89: "image a5c5f773 a5c5f773 analyzed library/busybox:1.36",
    90: "image a5c5f773 a5c5f773 analyzed library/busybox:1.36",
    91: "image a5c5f773 a5c5f773 analyzed library/busybox:1.36",
    92: "image a5c5f773 a5c5f773 analyzed library/busybox:1.36 library/busybox:other",
    280: "image a173ddb8 a173ddb8 not_analyzed team/bad:1",
    286: "image a173ddb8 a173ddb8 not_analyzed team/bad:1",
    287: "image 7ade3998 d9975de4 not_analyzed team/multi:1",
    296: "image 1b5cbc4e 1b5cbc4e not_analyzed team/oci:1",
    389: "image e54fd5bd e54fd5bd analyzed team/sshd:1.0",
    # an image by its digest
    45: ABSENT,
    46: ABSENT,
    64: "image a5c5f773 a5c5f773 not_analyzed library/busybox:1.36",
    71: "image f9d5ec0f f9d5ec0f analyzing team/debian:12",
    79: "image a5c5f773 a5c5f773 analyzed library/busybox:1.36",
    247: ABSENT,
    257: "image a5c5f773 a5c5f773 analyzed library/busybox:1.36",
    260: "image a5c5f773 a5c5f773 analyzed library/busybox:1.36",
    281: "image a173ddb8 a173ddb8 analysis_failed team/bad:1",
    288: "image 7ade3998 d9975de4 analyzed team/multi:1",
    289: "image 7ade3998 d9975de4 analyzed team/multi:1",
    306: "image cf875588 cf875588 analyzed team/web:1.0",
    307: "image f58fe4d2 f58fe4d2 analyzed team/web:1.0",
    351: ABSENT,
    378: "image e54fd5bd e54fd5bd analyzed team/sshd:1.0",
    385: "image e54fd5bd e54fd5bd analyzed team/sshd:1.0",
    # the check
    47: TRY_AGAIN,  # unknown: deleted since it was resolved
    66: NOT_ANALYZED,
    67: NOT_ANALYZED,
    73: NOT_ANALYZED,
    100: "pass",
    101: "pass",
    102: "fail",
    103: f"fail: {PORT_22}",
    104: "pass",
    105: NOT_UNDERSTOOD,
    110: BUNDLE_UNKNOWN,
    111: NOT_UNDERSTOOD,
    112: "pass",
    113: "pass",
    114: "pass",
    115: "pass",
    116: UNAUTHORIZED,
    134: "pass",
    135: "pass",
    136: "pass",
    137: "pass",
    138: "fail",
    139: f"fail: {PORT_22}",
    140: "pass",
    141: "pass",
    142: "fail",
    143: "fail: always/always",
    144: "fail",
    145: "fail: bundle/blacklisted_images",
    148: "fail",
    149: "fail: always/always",
    150: "pass",
    151: "pass",
    154: "pass",
    155: "unmapped",
    156: "fail",  # of a history the newest
    159: "fail",
    160: "pass",
    161: "pass",
    172: BUNDLE_UNKNOWN,
    198: "pass",
    216: "fail",
    217: "fail: vulnerabilities/package",
    248: TRY_AGAIN,
    258: "pass",
    259: "pass",
    261: "pass",
    263: "fail",
    264: BUNDLE_UNKNOWN,
    283: "ScanFailed analysis_failed",
    291: "pass",
    308: "pass",
    309: "pass",
    310: "pass",
    352: TRY_AGAIN,
    357: BUNDLE_UNKNOWN,
    359: "fail",
    365: "fail",
    366: "fail: always/always",
    375: TRY_AGAIN,
    376: NOT_UNDERSTOOD,  # an old history under another bundle, instead of an evaluation
    382: TRY_AGAIN,
    383: NOT_UNDERSTOOD,
    390: TRY_AGAIN,
    398: "fail",
    399: TRY_AGAIN,
    # the bundles
    25: f"bundles active={DEFAULT} of 1",
    26: f"bundles active={DEFAULT} of 1",
    132: f"bundles active={DEFAULT} of 8",
    133: f"bundles active={DEFAULT} of 8",
    158: "bundles active=deny-port22 of 8",
    171: "bundles active=deny-port22 of 7",
    249: f"bundles active={DEFAULT} of 1",
    356: "bundles active=None of 7",
}

ACTIVE_BUNDLE = {
    **dict.fromkeys((156, 216), DEFAULT),
    **dict.fromkeys((159, 160, 161, 357, 359, 375, 376, 382, 383, 390, 398, 399), "deny-port22"),
    **dict.fromkeys((198, 291, 308, 309, 310, 352), "allow-all"),
}
"""What was active where a check names no bundle; else the default one. Our client always names it."""


def _operation(recording: Recording) -> str | None:
    """Which of the client's four calls the record is about."""
    method, path = recording.request["method"], recording.request["path"]
    if (method, path) == ("POST", "/v1/images"):
        return "add"
    if (method, path) == ("GET", "/v1/policies"):
        return "bundles"
    if method == "GET" and (found := re.fullmatch(r"/v1/images/[^/]+(/check)?", path)):
        return "check" if found[1] else "get"
    return None


async def _ask(client: AnchoreV1, recording: Recording) -> str:
    request = recording.request
    digest = unquote(request["path"].split("/")[3]) if _operation(recording) in {"get", "check"} else ""
    tag = images.parse(str((request["query"] or {}).get("tag") or WEB))
    match _operation(recording):
        case "add":
            return await outcome(client.add_image(tag))
        case "get":
            return await outcome(client.image(digest))
        case "check":
            bundle_id = (request["query"] or {}).get("policyId") or ACTIVE_BUNDLE.get(
                recording.number, DEFAULT
            )
            return await outcome(client.check(digest, tag, bundle_id))
        case _:
            return await outcome(client.bundles())


@needs_recordings
def test_every_record_of_our_calls_has_its_row() -> None:
    concerned = {number for number, recording in RECORDINGS.items() if _operation(recording)}
    assert concerned == EXPECTED.keys()


@needs_recordings
@pytest.mark.parametrize(
    "number", EXPECTED, ids=lambda number: RECORDINGS[number].label if number in RECORDINGS else str(number)
)
async def test_recorded_answer(number: int) -> None:
    recording = RECORDINGS[number]
    body = recording.response["body"]
    headers = {
        name.replace("-", "_"): value
        for name, value in recording.response["headers"].items()
        if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}
    }
    answer = always(recording.response["status"], body, **headers)
    async with client_of(answer) as (client, journal):
        assert await _ask(client, recording) == EXPECTED[number]
    [sent] = journal
    assert (sent.method, sent.path) == (recording.request["method"], recording.request["path"])


@asynccontextmanager
async def client_of(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[AnchoreV1, list[Sent]]]:
    """A client of a server that gives this answer to everything, and the journal of what it was asked."""
    async with calls_of(answer) as (calls, journal):
        yield AnchoreV1(calls), journal


# What no engine was recorded to answer.

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
TAGGED = images.parse("r.example/a:1")
PINNED = images.parse(f"r.example/a:1@{DIGEST}")


def record(digest: str = DIGEST, **more: Any) -> list[dict[str, Any]]:
    return [{"imageDigest": digest, "parentDigest": digest, "analysis_status": "analyzed", **more}]


def engine_error(status: int, message: str, *codes: str) -> dict[str, Any]:
    return {"detail": {"error_codes": list(codes)}, "httpcode": status, "message": message}


CANNOT_FETCH = "cannot fetch image digest/manifest from registry"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("REGISTRY_PERMISSION_DENIED", "registry_unauthorized"),
        ("REGISTRY_IMAGE_NOT_FOUND", "image_not_found"),
        ("REGISTRY_NOT_ACCESSIBLE", "registry_unavailable"),
        ("REGISTRY_NOT_SUPPORTED", "registry_unavailable"),
        ("SKOPEO_UNKNOWN_ERROR", "registry_unavailable"),
        ("UNKNOWN", "registry_unavailable"),
        ("OSARCH_MISMATCH", "unsupported"),
    ],
)
async def test_what_the_engine_says_of_a_registry(code: str, expected: str) -> None:
    """All error codes of skopeo's failures; the unknown one covers time-outs, name servers and rate limits."""
    async with client_of(always(400, engine_error(400, CANNOT_FETCH, code))) as (client, _):
        assert await outcome(client.add_image(TAGGED)) == f"ScanFailed {expected}"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"", NOT_UNDERSTOOD),
        (200, b"\xff\xfe", NOT_UNDERSTOOD),
        (200, b"<html>It works!</html>", NOT_UNDERSTOOD),
        (200, b"{}", NOT_UNDERSTOOD),
        (200, b"[]", NOT_UNDERSTOOD),
        (200, b"[" * 100_000, NOT_UNDERSTOOD),
        (200, record() * 2, NOT_UNDERSTOOD),
        (200, record("latest"), NOT_UNDERSTOOD),
        (200, record(""), NOT_UNDERSTOOD),
        (200, record("../../policies"), NOT_UNDERSTOOD),
        (204, b"", NOT_UNDERSTOOD),
        (302, b"", NOT_UNDERSTOOD),
        (400, b"Bad Request", NOT_UNDERSTOOD),
        (403, engine_error(403, "Not authorized. Account team-a not enabled."), UNAUTHORIZED),
        (404, b"<html>no such page</html>", NOT_UNDERSTOOD),
        (405, b"", NOT_UNDERSTOOD),
        (408, b"", "Unavailable"),
        (413, b"", NOT_UNDERSTOOD),
        (429, b"", "Unavailable"),
        (500, b"Internal Server Error", TRY_AGAIN),
        (500, engine_error(500, "cannot add image, failed to update archive/DB"), TRY_AGAIN),
        (501, b"", TRY_AGAIN),
        (502, b"Bad Gateway", "Unavailable"),
        (503, b"", "Unavailable"),
        (504, b"", "Unavailable"),
    ],
)
async def test_other_answers_to_an_image_added(status: int, body: Any, expected: str) -> None:
    async with client_of(always(status, body)) as (client, _):
        assert await outcome(client.add_image(TAGGED)) == expected


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("", 1.0),
        ("-1", 1.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0),
        ("86400", 30.0),
        ("9" * 400, 30.0),
    ],
)
async def test_how_long_a_busy_server_is_left_alone(after: str, seconds: float) -> None:
    """Half a minute at most: all workers of the lane wait with this one."""
    async with client_of(always(429, b"", Retry_After=after)) as (client, _):
        with pytest.raises(Unavailable) as away:
            await client.bundles()
    assert away.value.delay == seconds
    assert away.value.neighbour == "anchore"


async def test_a_redirection_is_not_followed() -> None:
    """It would take the password along, and any server's answer for Anchore's."""
    async with client_of(always(200, [])) as (other, elsewhere):
        await other.bundles()
        url = f"http://localhost:{elsewhere[0].port}/v1/policies"
        async with client_of(always(302, b"[]", Location=url)) as (client, journal):
            assert await outcome(client.bundles()) == NOT_UNDERSTOOD
    assert (len(journal), len(elsewhere)) == (1, 1)


async def test_the_image_of_another_digest_is_not_taken() -> None:
    async with client_of(always(200, record(OTHER))) as (client, _):
        assert await outcome(client.image(DIGEST)) == NOT_UNDERSTOOD


async def test_an_image_is_found_by_its_lists_digest() -> None:
    async with client_of(always(200, record(OTHER, parentDigest=DIGEST))) as (client, _):
        assert (await outcome(client.image(DIGEST))).startswith("image bbbbbbbb aaaaaaaa")


@pytest.mark.parametrize(
    ("digest", "tag", "bundle_id", "expected"),
    [
        (DIGEST, "r.example/a:1", "b", "pass"),
        (OTHER, "r.example/a:1", "b", NOT_UNDERSTOOD),
        (DIGEST, "r.example/a:2", "b", NOT_UNDERSTOOD),
        (DIGEST, "r.example/a:1", "another", NOT_UNDERSTOOD),
    ],
)
async def test_a_check_counts_for_what_was_asked_alone(
    digest: str, tag: str, bundle_id: str, expected: str
) -> None:
    answer = [{digest: {tag: [{"status": "pass", "policyId": bundle_id, "detail": {}}]}}]
    async with client_of(always(200, answer)) as (client, _):
        assert await outcome(client.check(DIGEST, TAGGED, "b")) == expected


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b"[]")  # what follows are blanks: cut anywhere it would be a list of no bundles
        while sent < 20 * transport.MAX_ANSWER:
            await response.write(b" " * 65536)
            sent += 65536
        return response

    async with client_of(endless) as (client, _):
        assert await outcome(client.bundles()) == NOT_UNDERSTOOD
    assert sent < 4 * transport.MAX_ANSWER


async def test_an_answer_that_breaks_off_or_cannot_be_unpacked_is_no_answer() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"[{")
        assert request.transport
        request.transport.abort()
        return response

    for answer in (cut, always(200, b"nonsense", Content_Encoding="gzip")):
        async with client_of(answer) as (client, _):
            assert await outcome(client.add_image(TAGGED)) == "Unavailable"


async def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport.CALL_TIMEOUT == 30
    monkeypatch.setattr(transport, "CALL_TIMEOUT", 0.2)

    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    async with client_of(silent) as (client, _):
        assert await outcome(asyncio.wait_for(client.bundles(), 5)) == "Unavailable"


async def test_credentials_and_account_go_with_every_call() -> None:
    async with client_of(always(200, [])) as (client, journal):
        await client.bundles()
        await outcome(client.add_image(TAGGED))
    for sent in journal:
        assert sent.headers["Authorization"] == "Basic YWRhOnBhc3M6d8O2cmQ="
        assert sent.headers["x-anchore-account"] == "team-a"


def test_no_error_shows_the_password() -> None:
    settings = AnchoreSettings(url="http://a", username="ada", password=Secret("hunter2"))
    assert "hunter2" not in repr(settings)


# Against Anchore's own description of its API.


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    if not API_DESCRIPTION.exists():
        pytest.skip(f"Anchore's API description is not beside the repository ({API_DESCRIPTION})")
    found = yaml.load(API_DESCRIPTION.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    assert isinstance(found, dict)
    return found


UNDESCRIBED = {"parentDigest": "in every recorded answer (288), and in no description"}

TYPES = {"str": "string", "bool": "boolean", "list": "array", "dict": "object"}


@pytest.mark.parametrize(
    ("struct", "definition"),
    [
        (anchore_v1_api.ImageRecord, "AnchoreImage"),
        (anchore_v1_api.ImageDetail, "ImageDetail"),
        (anchore_v1_api.PolicyRecord, "PolicyBundleRecord"),
    ],
)
def test_fields_are_described(
    description: dict[str, Any], struct: type[msgspec.Struct], definition: str
) -> None:
    described = description["definitions"][definition]["properties"]
    for field in msgspec.structs.fields(struct):
        if field.encode_name in UNDESCRIBED:
            assert field.encode_name not in described
            continue
        said = described[field.encode_name]
        expected = said.get("type", "object")  # a reference: bundles and details are objects
        names = re.findall(r"str|bool|list|dict", str(field.type))
        assert expected in {TYPES.get(name, "object") for name in names}, field.encode_name


def test_the_analysis_has_the_described_states_and_no_other(description: dict[str, Any]) -> None:
    described = description["definitions"]["AnchoreImage"]["properties"]["analysis_status"]["enum"]
    assert {*anchore.UNDER_WAY, anchore.ANALYZED, anchore.ANALYSIS_FAILED} == set(described)


async def test_what_is_asked_is_described(description: dict[str, Any]) -> None:
    async with client_of(always(404, b"{}")) as (client, journal):
        for call in (
            client.add_image(TAGGED),
            client.add_image(PINNED),
            client.image(DIGEST),
            client.check(DIGEST, PINNED, "b"),
            client.bundles(),
        ):
            with_error = await outcome(call)
            assert with_error in {ABSENT, NOT_UNDERSTOOD}
    for sent in journal:
        path = sent.path.removeprefix("/v1").replace(DIGEST, "{imageDigest}")
        operation = description["paths"][path][sent.method.lower()]
        known = {each.get("name"): each for each in operation["parameters"]}
        assert sent.query.keys() <= known.keys()
        required = {name for name, each in known.items() if each.get("required") and each["in"] == "query"}
        assert required <= sent.query.keys()
        for name, value in sent.query.items():
            assert known[name]["type"] == "string" or value in {"true", "false"}
        if sent.body is not None:
            _must_fit(sent.body, "ImageAnalysisRequest", description["definitions"])


def _must_fit(body: dict[str, Any], definition: str, definitions: dict[str, Any]) -> None:
    described = definitions[definition]
    assert set(described.get("required", ())) <= body.keys() <= described["properties"].keys()
    for name, value in body.items():
        said = described["properties"][name]
        if "$ref" in said:
            _must_fit(value, said["$ref"].rpartition("/")[2], definitions)
        else:
            assert said["type"] == "string"
            assert isinstance(value, str)


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("r.example:5000/a/b:1", "r.example:5000/a/b:1"),
        (f"r.example/a@{DIGEST}", f"r.example/a:sha256-{'a' * 64}"),
        (f"r.example/a:1@{DIGEST}", f"r.example/a:sha256-{'a' * 64}"),
    ],
)
def test_the_tag_that_anchore_knows_an_image_by(image: str, tag: str) -> None:
    assert anchore.full_tag(images.parse(image)) == tag


@needs_recordings
async def test_nothing_recorded_is_a_surprise() -> None:
    """Any recorded answer to any of our calls is an answer or one of the client's own errors."""
    current = next(iter(RECORDINGS.values()))

    async def answer(request: web.Request) -> web.StreamResponse:
        return await always(current.response["status"], current.response["body"])(request)

    async with client_of(answer) as (client, _):
        for current in RECORDINGS.values():
            if current.is_from_engine:
                continue
            for call in (client.add_image(TAGGED), client.image(DIGEST), client.check(DIGEST, TAGGED, "b")):
                assert (await outcome(call)).split()[0] in OUTCOMES, current.label


OUTCOMES = {"image", ABSENT, NOT_ANALYZED, TRY_AGAIN, "Unavailable", "ScanFailed"}
