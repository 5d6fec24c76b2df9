"""What ImagePolicies say of themselves: each one's condition `Accepted`.

Whoever holds the gateways' Lease writes it, and only when it changes: tenants and bundles come and go
without a policy changing. How policies are read is in shared/image_policies.py.
"""

import asyncio
import contextlib
from datetime import UTC, datetime

import msgspec

from shared import logs
from shared.cluster import APPLY, Cluster
from shared.crds import API_VERSION
from shared.errors import MoorgateError
from shared.image_policies import PATH, ImagePolicy, PolicyCondition, PolicyFeed, PolicyStatus
from shared.policies import Finding, Tenants

__all__ = ["PATH", "ImagePolicies", "ImagePolicy", "PolicyCondition"]

MANAGER = "moorgate-gateway"
"""Field manager of the conditions."""

LOOK_AGAIN = 30.0
"""Seconds between two looks at all conditions: tenants and bundles come and go without a policy changing."""

ACCEPTED = "Accepted"


class _StatusChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    metadata: dict[str, str]
    status: PolicyStatus
    api_version: str = API_VERSION
    kind: str = "ImagePolicy"


class ImagePolicies(PolicyFeed):
    """All policies, and the conditions they should have."""

    def conditions_to_write(self, tenants: Tenants, now: datetime) -> list[tuple[str, PolicyCondition]]:
        """The conditions that are not yet as they should be, by policy."""
        wanted = [
            (item, _condition(item, self._compiled[name].finding_now(tenants), now))
            for name, item in sorted(self._items.items())
        ]
        return [
            (item.metadata.name, condition)
            for item, condition in wanted
            if condition not in item.status.conditions
        ]

    def out_of_force(self, tenants: Tenants) -> dict[str, str]:
        """Why, by policy: what it matches is decided by the process defaults."""
        findings = {name: each.finding_now(tenants) for name, each in sorted(self._compiled.items())}
        return {name: finding.message for name, finding in findings.items() if finding}


async def report_conditions(cluster: Cluster, policies: ImagePolicies, tenants: Tenants) -> None:
    """Keep the conditions right until cancelled. The work of the Lease's holder."""
    log = logs.logger("image_policies")
    while True:
        policies.changed.clear()
        for name, condition in policies.conditions_to_write(tenants, datetime.now(UTC)):
            change = _StatusChange(metadata={"name": name}, status=PolicyStatus(conditions=(condition,)))
            query = {"fieldManager": MANAGER, "force": "true"}
            try:
                await cluster.request(
                    "PATCH",
                    f"{PATH}/{name}/status",
                    query=query,
                    body=msgspec.json.encode(change),
                    content_type=APPLY,
                )
            except MoorgateError as error:
                log.warning("condition_not_written", policy=name, error=str(error))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(policies.changed.wait(), LOOK_AGAIN)


def _condition(item: ImagePolicy, finding: Finding | None, now: datetime) -> PolicyCondition:
    """The condition as it should be; it keeps its time while its status stays."""
    status = "False" if finding else "True"
    before = next((each for each in item.status.conditions if each.type == ACCEPTED), None)
    since = before.last_transition_time if before and before.status == status else now.replace(microsecond=0)
    return PolicyCondition(
        type=ACCEPTED,
        status=status,
        reason=finding.problem.value if finding else "Accepted",
        message=f"{finding.message}; what it matches is decided by the process defaults"
        if finding
        else "The policy is in force.",
        last_transition_time=since,
        observed_generation=item.metadata.generation,
    )
