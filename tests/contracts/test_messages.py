"""What was published once is understood for ever, and what we publish does not change unnoticed.

golden/ holds a file for each message of each version, every field set. A file is never rewritten: a new message,
or a version with new fields, gets a new file by

    MOORGATE_NEW_GOLDEN=1 pytest tests/contracts/test_messages.py

which writes only files that are not there. The file's name is the message's type and a number:
`moorgate.v1.verdict-1.json`; after new fields the sample below is extended and its number raised.
"""

import json
import os
import typing
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import contracts
from shared.contracts import (
    Action,
    AdmissionDecided,
    AffectedWorkload,
    ContainerKind,
    DeadLetter,
    Decoder,
    ErrorClass,
    FlipCause,
    ImageDecision,
    Message,
    Mode,
    Outcome,
    OwnerClaim,
    Reason,
    Result,
    RunningDigest,
    ScanError,
    ScanPending,
    ScanRequest,
    TenantRecord,
    Verdict,
    VerdictAnswer,
    VerdictFlipped,
    VerdictRequest,
    decode,
    encode,
)
from shared.errors import Permanent

GOLDEN = Path(__file__).parent / "golden"
NEW = os.environ.get("MOORGATE_NEW_GOLDEN") == "1"
START = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
DIGEST, LIST_DIGEST = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
IMAGE = "docker.io/library/nginx:1.27"
REASON = Reason(
    gate="vulnerabilities",
    trigger="package",
    action="stop",
    text="CVE-2026-0001 in openssl",
    trigger_id="CVE-2026-0001+openssl",
)

DECODERS: dict[type[Message], Decoder[Any]] = {
    ScanRequest: contracts.SCAN_REQUEST,
    Verdict: contracts.VERDICT,
    ScanPending: contracts.SCAN_STATE,
    ScanError: contracts.SCAN_STATE,
    TenantRecord: contracts.TENANT_RECORD,
    AdmissionDecided: contracts.ADMISSION_DECIDED,
    VerdictFlipped: contracts.VERDICT_FLIPPED,
    DeadLetter: contracts.DEAD_LETTER,
    VerdictRequest: contracts.VERDICT_REQUEST,
    VerdictAnswer: contracts.VERDICT_ANSWER,
    RunningDigest: msgspec.json.Decoder(RunningDigest),
}


def later(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


VERDICT_SAMPLE = Verdict(
    tenant="team-a",
    image=IMAGE,
    digest=DIGEST,
    list_digest=LIST_DIGEST,
    bundle_id="strict",
    bundle_hash="9f86d081",
    result=Result.FAIL,
    evaluated_at=START,
    fresh_until=later(300),
    known_until=later(604800),
    failing_since=later(-60),
    unchanged_since=later(-90),
    reasons=(REASON,),
    reasons_total=57,
    unmapped=True,
)
SAMPLES: dict[str, Message] = {
    "moorgate.v1.scan-request-1": ScanRequest(
        tenant="team-a",
        image=IMAGE,
        bundle_id="strict",
        seen=41,
        asked_at=START,
        asked_by="moorgate/gateway/gateway-0-1",
    ),
    "moorgate.v1.verdict-2": VERDICT_SAMPLE,
    "moorgate.v1.scan-pending-2": ScanPending(
        tenant="team-a",
        image=IMAGE,
        bundle_id="strict",
        digest=DIGEST,
        list_digest=LIST_DIGEST,
        since=START,
        next_look=later(5),
        attempt=3,
        begun=2,
    ),
    "moorgate.v1.scan-error-2": ScanError(
        tenant="team-a",
        image=IMAGE,
        bundle_id="strict",
        error=ErrorClass.REGISTRY_UNAUTHORIZED,
        message="unauthorized: authentication required",
        attempt=2,
        since=START,
        until=later(30),
        begun=1,
    ),
    "moorgate.v1.tenant-2": TenantRecord(
        tenant="team-a",
        active_bundle_id="strict",
        bundles={"strict": "9f86d081", "lenient": "60303ae2"},
        read_at=START,
        away_since=later(-30),
    ),
    "moorgate.v1.admission-decided-2": AdmissionDecided(
        id="7e2c1ab6-6a6c-4a3c-9d50-0e0a3f9b1c11",
        decided_at=START,
        namespace="shop",
        pod_name="web-5cd466fccb-x2x4z",
        pod_uid="0b7c1c0e-6f0f-4d4e-8f6c-000000000001",
        operation="UPDATE",
        action=Action.REJECTED,
        code=403,
        release="web",
        fake_release=True,
        user="system:serviceaccount:kube-system:replicaset-controller",
        images=(
            ImageDecision(
                container="web",
                container_kind=ContainerKind.INIT,
                image="nginx:1.27",
                outcome=Outcome.FAIL,
                mode=Mode.ENFORCE,
                reference=IMAGE,
                whitelist_item="web",
                policy="strict-shops",
                tenant="team-a",
                bundle_id="strict",
                bundle_hash="9f86d081",
                digest=DIGEST,
                list_digest=LIST_DIGEST,
                evaluated_at=START,
                revision=42,
                error=ErrorClass.ANCHORE_UNAVAILABLE,
                error_message="connection refused",
                reasons=(REASON,),
                grace_until=later(3600),
            ),
        ),
        sub_resource="ephemeralcontainers",
        owner=OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name="web-5cd466fccb", uid="owner-uid"),
        message="moorgate: Pod web-5cd466fccb-x2x4z is not admitted",
    ),
    "moorgate.v1.running-digest-1": RunningDigest(
        namespace="shop",
        digest=DIGEST,
        images=("docker.io/library/nginx:1.27", f"docker.io/library/nginx@{DIGEST}"),
        seen_at=START,
    ),
    "moorgate.v1.verdict-flipped-1": VerdictFlipped(
        id="5d41402abc4b2a76b9719d911017c592",
        flipped_at=START,
        tenant="team-a",
        image=IMAGE,
        digest=DIGEST,
        bundle_id="strict",
        bundle_hash="9f86d081",
        policy="strict-shops",
        revision=42,
        result=Result.FAIL,
        cause=FlipCause.FEED,
        namespace="shop",
        release="web",
        fake_release=True,
        workloads=(
            AffectedWorkload(kind="ReplicaSet", name="web-5cd466fccb", audit="replicaset-web-5cd466fccb"),
        ),
        workloads_total=3,
        new_reasons=(REASON,),
        reasons_total=57,
        failing_since=START,
    ),
    "moorgate.v1.verdict-request-1": VerdictRequest(
        image="nginx:1.27", bundle_id="strict", timeout_seconds=10
    ),
    "moorgate.v1.verdict-answer-1": VerdictAnswer(
        tenant="team-a",
        image=IMAGE,
        bundle_id="strict",
        outcome=Outcome.FAIL,
        verdict=VERDICT_SAMPLE,
        is_stale=True,
        digest=DIGEST,
        pending_since=START,
        next_look=later(5),
        error=ErrorClass.ANCHORE_UNAVAILABLE,
        error_message="connection refused",
    ),
    "moorgate.v1.dead-letter-1": DeadLetter(
        what="scan",
        reason="undecodable message",
        subject="moorgate.v1.scan.admission.team-a.00",
        stream="MOORGATE_SCANS",
        sequence=17,
        deliveries=5,
        died_at=START,
        payload=b"\x00\xffnot JSON",
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_field_of_a_sample_is_set(name: str) -> None:
    unset = list(_unset(SAMPLES[name]))
    assert unset == [], "a field that is not in the golden file can change unnoticed"


def _unset(value: msgspec.Struct) -> Iterator[str]:
    for field in msgspec.structs.fields(value):
        found = getattr(value, field.name)
        if found in (field.default, None, "", (), 0):
            yield f"{type(value).__name__}.{field.name}"
        for each in found if isinstance(found, tuple) else (found,):
            if isinstance(each, msgspec.Struct):
                yield from _unset(each)


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_published_stays_as_it_is(name: str) -> None:
    path = GOLDEN / f"{name}.json"
    text = json.dumps(json.loads(encode(SAMPLES[name])), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if NEW and not path.exists():
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path.name} is missing: see the head of this file"
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_ever_published_is_understood(path: Path) -> None:
    payload = path.read_bytes()
    type_name = json.loads(payload)["type"]
    assert path.stem.rpartition("-")[0] == type_name
    [kind] = [kind for kind in DECODERS if kind.type_name() == type_name]
    message = decode(payload, DECODERS[kind])
    assert isinstance(message, kind)
    if path.stem in SAMPLES:
        assert message == SAMPLES[path.stem]


def test_every_message_has_a_sample_and_every_sample_a_name_that_fits() -> None:
    assert {type(sample) for sample in SAMPLES.values()} == set(DECODERS) == set(Message.__subclasses__())
    assert all(name.rpartition("-")[0] == sample.type_name() for name, sample in SAMPLES.items())


def payload_of(name: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encode(SAMPLES[name]))
    return decoded


def reread(name: str, changed: dict[str, Any]) -> Message:
    message: Message = decode(json.dumps(changed).encode(), DECODERS[type(SAMPLES[name])])
    return message


@pytest.mark.parametrize("name", SAMPLES)
def test_fields_of_a_newer_version_are_tolerated(name: str) -> None:
    changed = payload_of(name)
    changed["fieldOfNextYear"] = {"a": [1, None]}
    for value in changed.values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and not isinstance(
                SAMPLES[name], TenantRecord
            ):  # there the keys are bundles
                each["fieldOfNextYear"] = [True]
    assert reread(name, changed) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_fields_with_a_default_may_be_missing(name: str) -> None:
    sample = SAMPLES[name]
    defaults = {
        field.encode_name: field
        for field in msgspec.structs.fields(sample)
        if field.default is not msgspec.NODEFAULT
    }
    older = {key: value for key, value in payload_of(name).items() if key not in defaults}
    read = reread(name, older)
    for field in defaults.values():
        assert getattr(read, field.name) == field.default
    for key in set(older) - {"type"}:
        without = {each: value for each, value in older.items() if each != key}
        with pytest.raises(Permanent, match=f"missing required field `{key}`"):
            reread(name, without)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_value_of_the_wrong_type_is_permanent(name: str) -> None:
    for key, value in payload_of(name).items():
        wrong: Any = [1] if not isinstance(value, list) else 1
        with pytest.raises(Permanent, match="undecodable"):
            reread(name, {**payload_of(name), key: wrong})


@pytest.mark.parametrize("name", SAMPLES)
def test_another_type_or_version_is_permanent(name: str) -> None:
    for other in (SAMPLES[name].type_name().replace("v1", "v2"), "moorgate.v1.other", ""):
        with pytest.raises(Permanent, match="undecodable"):
            reread(name, {**payload_of(name), "type": other})


@pytest.mark.parametrize(
    "payload", [b"", b"null", b"[]", b"{", b'"x"', b"\xff", b'{"type":' + b"[" * 100_000], ids=repr
)
@pytest.mark.parametrize("kind", DECODERS, ids=lambda kind: str(kind.type_name()))
def test_what_is_no_message_is_permanent(payload: bytes, kind: type[Message]) -> None:
    with pytest.raises(Permanent, match="undecodable"):
        decode(payload, DECODERS[kind])


@pytest.mark.parametrize("time", ["2026-11-23T12:00:00", "yesterday", 1700000000, None])
def test_a_time_without_a_zone_is_no_time(time: object) -> None:
    with pytest.raises(Permanent):
        reread("moorgate.v1.verdict-2", {**payload_of("moorgate.v1.verdict-2"), "freshUntil": time})


@pytest.mark.parametrize("tenant", ["", "a" * 41, "Team", "a.b", "a*", ">", "a b", "a\n", "\n", "ä", "a\x00"])
@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if hasattr(sample, "tenant")])
def test_a_tenant_that_could_reach_into_a_subject_is_refused(name: str, tenant: str) -> None:
    with pytest.raises(Permanent):
        reread(name, {**payload_of(name), "tenant": tenant})


def test_a_message_that_is_too_large_is_refused_before_it_is_sent() -> None:
    sample = SAMPLES["moorgate.v1.dead-letter-1"]
    with pytest.raises(Permanent, match=r"moorgate.v1.dead-letter of \d+ bytes is over 262144"):
        encode(msgspec.structs.replace(sample, payload=b"x" * 200_000))
    assert len(encode(msgspec.structs.replace(sample, payload=b"x" * 190_000))) <= contracts.MAX_MESSAGE_BYTES


TENANTS = st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  bounds have none
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    int: st.integers(0, 2**53),
    float: st.floats(0, 60),
    bool: st.booleans(),
    bytes: st.binary(max_size=50),
    type(None): st.none(),
    contracts.Utc: TIMES,
    contracts.Tenant: TENANTS,
}


def _is_bound(part: object) -> bool:
    return isinstance(part, msgspec.Meta)


def _is(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type: a new field is covered by itself."""
    if kind in PLAIN:
        return PLAIN[kind]
    parts = [values(part) for part in typing.get_args(kind) if part is not Ellipsis and not _is_bound(part)]
    origin = typing.get_origin(kind)
    if origin is tuple:
        return st.lists(parts[0], max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(*parts, max_size=2)
    if parts:
        return st.one_of(parts).filter(lambda value: not hasattr(kind, "__metadata__") or _is(value, kind))
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    fields = typing.get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{name: values(fields[name]) for name in kind.__struct_fields__})


@pytest.mark.parametrize("kind", DECODERS, ids=lambda kind: str(kind.type_name()))
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_every_message_comes_back_as_it_was(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(values(kind))
    payload = encode(message)
    assert decode(payload, DECODERS[kind]) == message
    assert json.loads(payload)["type"] == kind.type_name()
