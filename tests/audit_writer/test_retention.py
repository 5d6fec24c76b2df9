"""Which Audits are too old."""

from datetime import datetime, timedelta

import pytest

from services.audit_writer.cluster import LastSeen, UnownedAudit
from services.audit_writer.retention import is_expired
from shared.crds import AuditMetadata, OwnerReference
from tests.audit_writer.decisions import START

WEEK, DAY = timedelta(days=7), timedelta(days=1)
OWNER = OwnerReference(api_version="v1", kind="Pod", name="web", uid="u")


def unowned(last_seen: datetime, **metadata: object) -> UnownedAudit:
    fields = {"name": "pod-web", "namespace": "shop", "creation_timestamp": START - 8 * DAY, **metadata}
    return UnownedAudit(AuditMetadata(**fields), LastSeen(last_seen))  # type: ignore[arg-type]  # each test names its own


@pytest.mark.parametrize(
    ("audit", "is_too_old"),
    [
        (unowned(START - 8 * DAY), True),
        (unowned(START - 6 * DAY), False),
        (unowned(START - 8 * DAY, owner_references=(OWNER,)), False),
        (unowned(START - 8 * DAY, deletion_timestamp=START), False),
        (unowned(START + 9000 * DAY), True),
        (unowned(START + DAY, creation_timestamp=START - DAY), False),
    ],
)
def test_is_expired(audit: UnownedAudit, *, is_too_old: bool) -> None:
    assert is_expired(audit, START - WEEK, START) is is_too_old
