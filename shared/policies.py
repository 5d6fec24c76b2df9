"""ImagePolicies: which rule an image is judged by, for admissions and re-scans alike.

For each image the first policy wins that matches its namespace and its reference, by priority (highest
first), then by name. Without a match the process defaults apply. A broken policy keeps its place: what
its readable selectors match, or everything where these are the broken part, is decided by the process
defaults, so that a slip of the pen never lets anything in.

A pure module: policies, namespaces' labels and tenants in, rules out.
"""

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum

import msgspec

from shared.contracts import Mode, TenantRecord
from shared.settings import Environment, parse_duration


class OnPending(StrEnum):
    """What becomes of a Pod whose scan is still under way when the wait ends."""

    RETRY = "retry"
    ALLOW = "allow"
    DENY = "deny"


class OnError(StrEnum):
    """What becomes of a Pod for whose image no verdict can be had."""

    DENY = "deny"
    ALLOW = "allow"


_Labels = frozenset[tuple[str, str]]

MAX_MATCHES = 8192
"""Images, by namespaces' labels, whose policy is remembered."""

DEFAULT_TENANT = "default"
"""The tenant of whoever names none."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How one image is judged."""

    mode: Mode
    on_pending: OnPending
    on_error: OnError
    tenant: str = DEFAULT_TENANT
    bundle_id: str | None = None
    """None: whatever bundle is active for the tenant."""
    incumbent_grace: float = 0.0
    """Seconds a digest that already runs in the namespace is let in after it began to fail."""
    policy: str | None = None
    """Name of the ImagePolicy; None: the process defaults."""


def load_defaults(environment: Environment) -> Rule:
    """The process defaults, from `MOORGATE_MODE`, `MOORGATE_ON_PENDING` and `MOORGATE_ON_ERROR`. Raises `BadSetting`."""
    return Rule(
        mode=environment.choice("MOORGATE_MODE", Mode, Mode.ENFORCE),
        on_pending=environment.choice("MOORGATE_ON_PENDING", OnPending, OnPending.RETRY),
        on_error=environment.choice("MOORGATE_ON_ERROR", OnError, OnError.DENY),
    )


class Operator(StrEnum):
    """Of a label selector's expression."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Problem(StrEnum):
    """Why a policy is broken: the reason of its condition `Accepted=False`."""

    UNREADABLE = "Unreadable"
    BAD_SELECTOR = "BadNamespaceSelector"
    BAD_GLOB = "BadImageGlob"
    BAD_DURATION = "BadIncumbentGrace"
    UNKNOWN_TENANT = "UnknownTenant"
    UNKNOWN_BUNDLE = "UnknownPolicyBundle"


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """camelCase, as in the manifest."""


class Requirement(_Wire, frozen=True, kw_only=True):
    """One expression of a label selector."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(_Wire, frozen=True, kw_only=True):
    """As in metav1.LabelSelector; empty matches everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()


class PolicySpec(_Wire, frozen=True, kw_only=True):
    """What an ImagePolicy says. Modes and the like were checked by the API server against the CRD."""

    priority: int = 0
    namespace_selector: LabelSelector | None = None
    images: tuple[str, ...] = ()
    """Globs on the normalised reference or on what the Pod writes; empty: every image."""
    mode: Mode = Mode.ENFORCE
    policy_bundle: str = ""
    tenant: str = DEFAULT_TENANT
    on_pending: OnPending = OnPending.RETRY
    on_error: OnError = OnError.DENY
    incumbent_grace: str = ""


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with a policy, in one line."""

    problem: Problem
    message: str


Tenants = Callable[[str], TenantRecord | None]
"""How a tenant's record is looked up."""


class CompiledPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy made ready for matching, with what is wrong with it by itself."""

    name: str
    spec: PolicySpec
    grace: float = 0.0
    finding: Finding | None = None

    def finding_now(self, tenants: Tenants) -> Finding | None:
        """What is wrong with it: by itself, or because its tenant or bundle isn't there (now)."""
        if self.finding is not None:
            return self.finding
        if self.names_nothing:
            return None
        record = tenants(self.spec.tenant)
        if record is None:
            return Finding(Problem.UNKNOWN_TENANT, f"no scanner serves tenant {self.spec.tenant!r}")
        bundle = self.spec.policy_bundle
        if bundle and bundle not in record.bundles:
            message = f"tenant {self.spec.tenant!r} has no policy bundle {bundle!r}"
            return Finding(Problem.UNKNOWN_BUNDLE, message)
        return None

    @property
    def names_nothing(self) -> bool:
        """Neither a tenant nor a bundle: it is in force whatever is known of them, also while nothing is known yet."""
        return self.spec.tenant == DEFAULT_TENANT and not self.spec.policy_bundle

    def covers_namespace(self, labels: Mapping[str, str]) -> bool:
        """Whether its selector matches; a selector that cannot be read matches everything."""
        selector = self.spec.namespace_selector
        if selector is None or (self.finding and self.finding.problem is Problem.BAD_SELECTOR):
            return True
        return matches(selector, labels)

    def covers_image(self, reference: str, written: str) -> bool:
        """Whether one of its globs matches; globs that cannot be read match everything."""
        globs = self.spec.images
        if not globs or (self.finding and _bad_glob(globs)):  # whatever was found first
            return True
        return any(fnmatch.fnmatchcase(text, glob) for glob in globs for text in (reference, written))

    def rule(self) -> Rule:
        """What it says, where nothing is wrong with it."""
        spec = self.spec
        return Rule(
            mode=spec.mode,
            on_pending=spec.on_pending,
            on_error=spec.on_error,
            tenant=spec.tenant,
            bundle_id=spec.policy_bundle or None,
            incumbent_grace=self.grace,
            policy=self.name,
        )


def compile_policy(name: str, spec: PolicySpec) -> CompiledPolicy:
    """The policy made ready, with the first thing that is wrong with it by itself."""
    finding = _bad_selector(spec.namespace_selector) or _bad_glob(spec.images)
    grace = 0.0
    if spec.incumbent_grace and finding is None:
        try:
            grace = parse_duration(spec.incumbent_grace)
        except ValueError:
            message = f"incumbentGrace {spec.incumbent_grace!r} must be a duration such as 72h"
            finding = Finding(Problem.BAD_DURATION, message)
    return CompiledPolicy(name=name, spec=spec, grace=grace, finding=finding)


class Policies:
    """All policies in the order in which they are asked."""

    def __init__(self, policies: Iterable[CompiledPolicy], defaults: Rule) -> None:
        self._ordered = sorted(policies, key=lambda policy: (-policy.spec.priority, policy.name))
        self._rules = {policy.name: policy.rule() for policy in self._ordered}
        self._defaults = defaults
        self._first: dict[tuple[_Labels, str, str], CompiledPolicy | None] = {}
        """By labels and image, the policy that matches: the same images come again and again, and policies are many."""
        self._labels: dict[_Labels, _Labels] = {}
        """Each once in memory, however many images a namespace makes up."""

    def __iter__(self) -> Iterator[CompiledPolicy]:
        return iter(self._ordered)

    def rule_for(
        self, namespace: Mapping[str, str] | None, reference: str, written: str, tenants: Tenants
    ) -> Rule:
        """The rule of one image; `namespace`: its labels, None when they cannot be had (then the defaults)."""
        if namespace is None:
            return self._defaults
        policy = self._first_match(namespace, reference, written)
        if policy is None:
            return self._defaults
        return self._rules[policy.name] if policy.finding_now(tenants) is None else self._broken(policy)

    def _first_match(
        self, namespace: Mapping[str, str], reference: str, written: str
    ) -> CompiledPolicy | None:
        """Depends on nothing that changes while these are the policies."""
        if not self._ordered:
            return None
        labels = frozenset(namespace.items())
        key = self._labels.get(labels, labels), reference, written
        if key not in self._first:
            if len(self._first) >= MAX_MATCHES:
                self._first.clear()
                self._labels.clear()
            self._labels[labels] = key[0]
            matching = (
                policy
                for policy in self._ordered
                if policy.covers_namespace(namespace) and policy.covers_image(reference, written)
            )
            self._first[key] = next(matching, None)
        return self._first[key]

    def _broken(self, policy: CompiledPolicy) -> Rule:
        return msgspec.structs.replace(self._defaults, policy=policy.name)


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """As Kubernetes evaluates it: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/."""
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    return all(_meets(requirement, labels) for requirement in selector.match_expressions)


def _meets(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match Operator(requirement.operator):
        case Operator.IN:
            return value in requirement.values
        case Operator.NOT_IN:
            return value not in requirement.values
        case Operator.EXISTS:
            return value is not None
        case Operator.DOES_NOT_EXIST:
            return value is None


def _bad_selector(selector: LabelSelector | None) -> Finding | None:
    for requirement in selector.match_expressions if selector else ():
        wants_values = requirement.operator in (Operator.IN, Operator.NOT_IN)
        if requirement.operator not in set(Operator) or wants_values != bool(requirement.values):
            message = (
                f"namespaceSelector: {requirement.key!r} with operator {requirement.operator!r} and "
                f"{len(requirement.values)} values; In and NotIn need values, Exists and DoesNotExist none"
            )
            return Finding(Problem.BAD_SELECTOR, message)
    return None


def _bad_glob(globs: tuple[str, ...]) -> Finding | None:
    for glob in globs:
        if not glob or glob.count("[") != glob.count("]") or any(each.isspace() for each in glob):
            return Finding(Problem.BAD_GLOB, f"images: {glob!r} is no glob: use *, ? and […] without blanks")
    return None
