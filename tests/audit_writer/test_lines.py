"""Audits as lines: one for each change, a conflict where somebody was faster, bounded memory, and an end with stdout."""

import asyncio
import io
import json

import msgspec
import pytest

from services.audit_writer.audit import Standing, audit_of
from services.audit_writer.lines import AuditLines, OwnersByClaim
from shared.contracts import OwnerClaim
from shared.crds import Audit
from shared.errors import Conflict, Unavailable
from tests.audit_writer.decisions import decision


def audit(number: int = 1) -> Audit:
    return audit_of(decision(number), Standing(name=f"pod-{number}"))


async def test_a_change_is_a_line_without_what_an_api_server_would_add() -> None:
    stream = io.BytesIO()
    lines = AuditLines(stream)
    stored = await lines.create(audit())
    assert stored.audit is not None
    await lines.apply(msgspec.structs.replace(stored.audit, kind="Audit"))
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first == second
    assert first["metadata"].keys() == {"name", "namespace", "labels"}
    assert (first["kind"], first["status"]["state"]) == ("Audit", "admitted")


async def test_lines_are_utf_8_whatever_the_terminal_speaks() -> None:
    stream = io.BytesIO()
    strange = audit()
    spec = msgspec.structs.replace(strange.spec, release_name="læse-\u65e5")
    await AuditLines(stream).create(msgspec.structs.replace(strange, spec=spec))
    assert json.loads(stream.getvalue().decode())["spec"]["releaseName"] == "læse-\u65e5"


async def test_of_two_at_once_one_is_told() -> None:
    lines = AuditLines(io.BytesIO())
    both = await asyncio.gather(lines.create(audit()), lines.create(audit()), return_exceptions=True)
    assert sorted(type(each).__name__ for each in both) == ["Conflict", "StoredAudit"]


async def test_who_was_slower_is_told() -> None:
    lines = AuditLines(io.BytesIO())
    stored = await lines.create(audit())
    assert stored.audit is not None
    with pytest.raises(Conflict):
        await lines.create(audit())
    await lines.apply(stored.audit)
    with pytest.raises(Conflict):
        await lines.apply(stored.audit)


async def test_what_was_not_used_for_longest_is_forgotten() -> None:
    size = len(msgspec.json.encode(audit()))
    lines = AuditLines(io.BytesIO(), max_bytes=3 * size)
    for number in range(1, 5):
        await lines.create(audit(number))
    assert await lines.audit(audit(1).metadata.namespace, "pod-1") is None
    assert await lines.audit(audit(4).metadata.namespace, "pod-4") is not None


async def test_without_a_reader_nothing_counts_as_written_and_the_process_ends() -> None:
    stream = io.BytesIO()
    stream.close()
    lines = AuditLines(stream)
    with pytest.raises(Unavailable):
        await lines.create(audit())
    assert await lines.audit(audit().metadata.namespace, "pod-1") is None
    assert not await lines.answers()
    with pytest.raises(OSError, match="cannot be written"):
        await asyncio.wait_for(lines.run(), 5)


async def test_a_claimed_controller_shares_its_record_and_owns_nothing() -> None:
    claim = OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name="web-5cd466fccb", uid="u")
    standing = await OwnersByClaim().standing(decision(1, owner=claim))
    alone = await OwnersByClaim().standing(decision(1, owner=None))
    assert standing.owner is alone.owner is None
    assert (standing.name, alone.name) == ("replicaset-web-5cd466fccb", "pod-web-5cd466fccb-1")
    assert standing.doubt is not None
    assert (standing.doubt.reason, alone.doubt) == ("NoCluster", None)
