"""ImagePolicies as the API server has them, fed by a watch and ready for matching.

Gateways judge admissions by them, the audit-writer what runs: both must read a policy alike. One whose
spec this version cannot read at all still takes its place and decides nothing by itself.
"""

import asyncio

import msgspec

from shared.contracts import Utc
from shared.crds import API_VERSION
from shared.objects import ObjectMeta
from shared.policies import CompiledPolicy, Finding, Policies, PolicySpec, Problem, Rule, compile_policy

PATH = f"/apis/{API_VERSION}/imagepolicies"


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


class PolicyFeed:
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

    def _rebuild(self) -> None:
        self.rules = Policies(self._compiled.values(), self._defaults)
        self.changed.set()


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
