"""What the API server's refusals mean for an Audit."""

import pytest

from services.audit_writer.audit import Standing, audit_of
from services.audit_writer.cluster import AuditCluster, NamespaceGone
from shared.cluster import Cluster
from shared.errors import MoorgateError, Permanent, Refused, Retryable, Unavailable
from tests.audit_writer.decisions import decision


class RefusingCluster(Cluster):
    """Answers every request with one refusal."""

    def __init__(self, refusal: Refused) -> None:
        self.refusal = refusal

    async def request(self, *_: object, **__: object) -> bytes:
        raise self.refusal


@pytest.mark.parametrize(
    ("status", "message", "meaning"),
    [
        (404, 'namespaces "shop" not found', NamespaceGone),
        (403, "unable to create: namespace shop is being terminated", NamespaceGone),
        (404, "the server could not find the requested resource", Unavailable),
        (403, "exceeded quota: audits", Retryable),
        (422, "Audit is invalid", Permanent),
        (413, "too large", Permanent),
    ],
)
async def test_refusals(status: int, message: str, meaning: type[MoorgateError]) -> None:
    audits = AuditCluster(RefusingCluster(Refused(status, message)))
    with pytest.raises(meaning):
        await audits.create(audit_of(decision(), Standing(name="pod-web")))


async def test_what_is_not_there_is_none_and_who_does_not_answer_is_not_ready() -> None:
    audits = AuditCluster(RefusingCluster(Refused(404, "audits not found")))
    assert await audits.audit("shop", "pod-web") is None
    assert await audits.resources("argoproj.io/v1") == {}
    assert not await audits.answers()
