"""The names that other tools build on, and that nothing a user types can reach into them."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared import subjects
from shared.errors import BadImage
from shared.images import parse
from shared.subjects import Lane

KEY = re.compile(r"[a-z0-9-]{1,40}\.[0-9a-f]{16}\.[0-9a-f]{64}")
TENANTS = st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True)


def test_the_names_are_those_of_the_contract() -> None:
    assert (subjects.SCANS, subjects.EVENTS, subjects.DEAD) == (
        "MOORGATE_SCANS",
        "MOORGATE_EVENTS",
        "MOORGATE_DEAD",
    )
    buckets = (subjects.VERDICTS, subjects.SCAN_STATES, subjects.TENANTS, subjects.RUNNING)
    assert buckets == ("moorgate_verdicts", "moorgate_scan_states", "moorgate_tenants", "moorgate_running")
    assert subjects.decision_subject("shop") == "moorgate.v1.event.decision.shop"
    assert subjects.dead_subject("scan") == "moorgate.v1.dead.scan"
    assert subjects.AUDIT_WRITER == "audit-writer"
    assert subjects.lane_durable(Lane.RESCAN, "default") == "scan-rescan-default"


def test_a_key_stays_what_it_is_for_ever() -> None:
    """Another key for the same image would make every verdict unknown at an upgrade."""
    key = subjects.verdict_key("default", "default-policy", "docker.io/library/nginx:1.27")
    assert key == "default.9b65ceff8e84ad5c.6965a10c15290ad0b29ca7fd1866de1850408b3cb15fb11a3bbbbc2fddb158bd"
    scan = "823f29c3819e35565394337ce13845c35a86d492f06009d64a3a152ec1a491b8"
    assert (
        subjects.scan_subject(Lane.ADMISSION, "default", key) == f"moorgate.v1.scan.admission.default.{scan}"
    )


def test_the_subject_of_a_scan_is_in_its_lane() -> None:
    key = subjects.verdict_key("team-a", "b", "docker.io/library/nginx:1")
    for lane, word in ((Lane.ADMISSION, "admission"), (Lane.RESCAN, "rescan")):
        subject = subjects.scan_subject(lane, "team-a", key)
        assert re.fullmatch(rf"moorgate\.v1\.scan\.{word}\.team-a\.[0-9a-f]{{64}}", subject)
        assert matches(subjects.lane_subjects(lane, "team-a"), subject)
        assert matches(subjects.SCAN_SUBJECTS, subject)
        assert not matches(subjects.lane_subjects(lane, "team"), subject)
    assert subjects.scan_subject(Lane.ADMISSION, "t", key) != subjects.scan_subject(
        Lane.ADMISSION, "t", key + "0"
    )


def test_events_and_dead_letters_lie_in_their_streams() -> None:
    assert matches(subjects.EVENT_SUBJECTS, subjects.decision_subject("shop"))
    assert matches(subjects.DECISION_SUBJECTS, subjects.decision_subject("shop"))
    assert matches(subjects.DEAD_SUBJECTS, subjects.dead_subject("decision"))


@given(TENANTS, st.text(), st.text())
@settings(deadline=None)
def test_no_bundle_id_or_reference_gets_out_of_the_keys_grammar(tenant: str, bundle: str, text: str) -> None:
    for reference in (text, normal(text)):
        key = subjects.verdict_key(tenant, bundle, reference)
        assert KEY.fullmatch(key)
        subject = subjects.scan_subject(Lane.ADMISSION, tenant, key)
        assert matches(subjects.lane_subjects(Lane.ADMISSION, tenant), subject)


@given(TENANTS, st.text(), st.text(), st.text(), st.text())
@settings(deadline=None)
def test_another_image_or_bundle_has_another_key(
    tenant: str, bundle: str, image: str, other: str, more: str
) -> None:
    assume((bundle, image) != (more, other))
    assert subjects.verdict_key(tenant, bundle, image) != subjects.verdict_key(tenant, more, other)


@pytest.mark.parametrize(
    "other", ["nginx:1.27", "docker.io/nginx:1.27", "index.docker.io/library/nginx:1.27"]
)
def test_one_image_has_one_key_however_it_is_written(other: str) -> None:
    full = subjects.verdict_key("default", "b", "docker.io/library/nginx:1.27")
    assert subjects.verdict_key("default", "b", str(parse(other))) == full


def normal(text: str) -> str:
    try:
        return str(parse(text))
    except BadImage:
        return "docker.io/library/nginx:latest"


def matches(pattern: str, subject: str) -> bool:
    """As NATS matches: `*` is one token, `>` is one or more at the end."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1] if len(tokens) >= len(wanted) else []
    pairs = zip(wanted, tokens, strict=False)
    return len(wanted) == len(tokens) and all(want in ("*", token) for want, token in pairs)
