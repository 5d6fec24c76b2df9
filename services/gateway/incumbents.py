"""What runs already and fails only now: let in for a while, so that node drains do not break production.

A digest counts as an incumbent where the audit-writer's inventory has seen a kubelet run it in the same
namespace, itself or the manifest list it was found through. The grace runs from the moment it began to
fail, not from anybody's admission of it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from shared.contracts import Result, Verdict
from shared.policies import Rule
from shared.subjects import running_key

IsRunning = Callable[[str], bool]
"""Whether a key of the bucket of what runs is there."""


def grace_until(
    verdict: Verdict | None, rule: Rule, namespace: str, is_running: IsRunning, now: datetime
) -> datetime | None:
    """Until when a failing image is let in because it runs already; None: it is not."""
    if verdict is None or verdict.result is not Result.FAIL or not rule.incumbent_grace:
        return None
    until = (verdict.failing_since or verdict.evaluated_at) + timedelta(seconds=rule.incumbent_grace)
    digests = {verdict.digest, verdict.list_digest}
    runs = any(is_running(running_key(namespace, digest)) for digest in digests if digest)
    return until if runs and now < until else None
