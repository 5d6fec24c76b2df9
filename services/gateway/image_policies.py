"""ImagePolicies as the gateway has them: fed by a watch, ready for matching, their conditions reported.

Whoever holds the gateways' Lease writes each policy's condition `Accepted`, and only when it changes. A
policy whose spec this version cannot read at all still takes its place and decides nothing by itself.
"""

import asyncio
import contextlib
from datetime import UTC, datetime

import msgspec

from shared import logs
from shared.cluster import APPLY, Cluster
from shared.contracts import Utc
from shared.crds import API_VERSION
from shared.errors import MoorgateError
from shared.objects import ObjectMeta
from shared.policies import (
    CompiledPolicy,
    Finding,
    Policies,
    PolicySpec,
    Problem,
    Rule,
    Tenants,
    compile_policy,
)

PATH = f"/apis/{API_VERSION}/imagepolicies"

MANAGER = "moorgate-gateway"
"""Field manager of the conditions."""

LOOK_AGAIN = 30.0
"""Seconds between two looks at all conditions: tenants and bundles come and go without a policy changing."""

ACCEPTED = "Accepted"


class PolicyCondition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """As in metav1.Condition."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: Utc
    observed_generation: int = 0


class PolicyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the policy is in force."""

    conditions: tuple[PolicyCondition, ...] = ()


class ImagePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """An ImagePolicy; `spec` stays raw, so that one that cannot be read is not overlooked."""

    metadata: ObjectMeta
    spec: msgspec.Raw
    status: PolicyStatus = PolicyStatus()


class _StatusChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    metadata: dict[str, str]
    status: PolicyStatus
    api_version: str = API_VERSION
    kind: str = "ImagePolicy"


class ImagePolicies:
    """All policies. A feed of `shared.watches.Watch`."""

    def __init__(self, defaults: Rule) -> None:
        self._defaults = defaults
        self._items: dict[str, ImagePolicy] = {}
        self._compiled: dict[str, CompiledPolicy] = {}
        self.rules = Policies([], defaults)
        """Ready for matching."""
        self.changed = asyncio.Event()
        """Set after each change."""

    def replace(self, items: list[ImagePolicy]) -> None:
        """These are all there are."""
        self._items = {item.metadata.name: item for item in items}
        self._compiled = {item.metadata.name: _compiled(item) for item in items}
        self._rebuild()

    def put(self, item: ImagePolicy) -> None:
        """This one is new or changed."""
        self._items[item.metadata.name] = item
        self._compiled[item.metadata.name] = _compiled(item)
        self._rebuild()

    def remove(self, item: ImagePolicy) -> None:
        """This one is gone."""
        self._items.pop(item.metadata.name, None)
        self._compiled.pop(item.metadata.name, None)
        self._rebuild()

    def __len__(self) -> int:
        return len(self._items)

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

    def _rebuild(self) -> None:
        self.rules = Policies(self._compiled.values(), self._defaults)
        self.changed.set()


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


def _compiled(item: ImagePolicy) -> CompiledPolicy:
    name = item.metadata.name
    try:
        return compile_policy(name, msgspec.json.decode(item.spec, type=PolicySpec))
    except msgspec.MsgspecError as error:
        finding = Finding(Problem.UNREADABLE, f"spec cannot be read by this version: {error}")
        return CompiledPolicy(name=name, spec=PolicySpec(priority=_priority(item.spec)), finding=finding)


class _Priority(msgspec.Struct, frozen=True):
    priority: int = 0


def _priority(spec: msgspec.Raw) -> int:
    """The priority alone; where not even that can be read, first of all."""
    try:
        return msgspec.json.decode(spec, type=_Priority).priority
    except msgspec.MsgspecError:
        return 2**31 - 1


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
