from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import Mode, TenantRecord
from shared.policies import (
    CompiledPolicy,
    Finding,
    LabelSelector,
    OnError,
    OnPending,
    Policies,
    PolicySpec,
    Problem,
    Requirement,
    Rule,
    compile_policy,
    matches,
)

DEFAULTS = Rule(mode=Mode.ENFORCE, on_pending=OnPending.RETRY, on_error=OnError.DENY)
NGINX = ("docker.io/library/nginx:1.25", "nginx:1.25")
PROD = {"env": "prod", "kubernetes.io/metadata.name": "shop"}


def tenants(name: str) -> TenantRecord | None:
    if name == "away":
        return None
    return TenantRecord(
        tenant=name,
        active_bundle_id="active",
        bundles={"active": "1", "strict": "2"},
        read_at=datetime.now(UTC),
    )


def policies(**specs: PolicySpec) -> Policies:
    return Policies([compile_policy(name, spec) for name, spec in specs.items()], DEFAULTS)


def rule(of: Policies, labels: dict[str, str] | None = None, image: tuple[str, str] = NGINX) -> Rule:
    return of.rule_for(PROD if labels is None else labels, *image, tenants)


def test_without_a_match_the_defaults_apply() -> None:
    assert rule(policies()) == DEFAULTS
    assert rule(policies(other=PolicySpec(images=("quay.io/*",)))) == DEFAULTS
    elsewhere = LabelSelector(match_labels={"env": "dev"})
    assert rule(policies(other=PolicySpec(namespace_selector=elsewhere))) == DEFAULTS


def test_the_highest_priority_wins_then_the_name() -> None:
    ordered = policies(
        b=PolicySpec(priority=5, mode=Mode.WARN),
        a=PolicySpec(priority=5, mode=Mode.AUDIT),
        z=PolicySpec(priority=10, mode=Mode.OFF, images=("quay.io/*",)),
    )
    assert rule(ordered).policy == "a"
    assert rule(ordered, image=("quay.io/x/y:1", "quay.io/x/y:1")).policy == "z"


def test_a_rule_says_what_its_policy_says() -> None:
    spec = PolicySpec(
        mode=Mode.WARN,
        policy_bundle="strict",
        tenant="team-a",
        on_pending=OnPending.ALLOW,
        on_error=OnError.ALLOW,
        incumbent_grace="72h",
    )
    assert rule(policies(p=spec)) == Rule(
        mode=Mode.WARN,
        on_pending=OnPending.ALLOW,
        on_error=OnError.ALLOW,
        tenant="team-a",
        bundle_id="strict",
        incumbent_grace=72 * 3600,
        policy="p",
    )


def test_a_policy_that_says_nothing_refuses_for_everything() -> None:
    assert rule(policies(p=PolicySpec())) == msgspec.structs.replace(DEFAULTS, policy="p")
    bare = Rule(mode=Mode.ENFORCE, on_pending=OnPending.RETRY, on_error=OnError.DENY)
    assert (bare.tenant, bare.bundle_id, bare.incumbent_grace, bare.policy) == ("default", None, 0, None)


def expression(operator: str, *values: str, key: str = "a") -> dict[str, LabelSelector]:
    requirement = Requirement(key=key, operator=operator, values=values)
    return {"namespace_selector": LabelSelector(match_expressions=(requirement,))}


GLOB_HELP = "is no glob: use *, ? and […] without blanks"
SELECTOR_HELP = "In and NotIn need values, Exists and DoesNotExist none"
BROKEN: list[tuple[dict[str, Any], Problem, str]] = [
    ({"tenant": "away"}, Problem.UNKNOWN_TENANT, "no scanner serves tenant 'away'"),
    (
        {"policy_bundle": "gone", "tenant": "team-a"},
        Problem.UNKNOWN_BUNDLE,
        "tenant 'team-a' has no policy bundle 'gone'",
    ),
    *[
        ({"images": ("*", glob)}, Problem.BAD_GLOB, f"images: {glob!r} {GLOB_HELP}")
        for glob in ("[a", "a]", "a b", "a\t", "")
    ],
    (
        {"incumbent_grace": "3 days"},
        Problem.BAD_DURATION,
        "incumbentGrace '3 days' must be a duration such as 72h",
    ),
    *[
        (
            expression(operator, *values),
            Problem.BAD_SELECTOR,
            f"namespaceSelector: 'a' with operator {operator!r} and {len(values)} values; {SELECTOR_HELP}",
        )
        for operator, values in (
            ("Like", ()),
            ("Like", ("x",)),
            ("In", ()),
            ("NotIn", ()),
            ("Exists", ("x",)),
            ("DoesNotExist", ("x", "y")),
        )
    ],
]


WRITTEN = {
    "priority": 5,
    "namespaceSelector": {
        "matchLabels": {"env": "prod"},
        "matchExpressions": [
            {"key": "team", "operator": "In", "values": ["a"]},
            {"key": "x", "operator": "Exists"},
        ],
    },
    "images": ["quay.io/*"],
    "mode": "warn",
    "policyBundle": "strict",
    "tenant": "team-a",
    "onPending": "allow",
    "onError": "allow",
    "incumbentGrace": "72h",
}


def test_a_spec_is_read_as_the_manifest_writes_it() -> None:
    read = msgspec.convert(WRITTEN, PolicySpec)
    assert read == PolicySpec(
        priority=5,
        namespace_selector=LabelSelector(
            match_labels={"env": "prod"},
            match_expressions=(
                Requirement(key="team", operator="In", values=("a",)),
                Requirement(key="x", operator="Exists"),
            ),
        ),
        images=("quay.io/*",),
        mode=Mode.WARN,
        policy_bundle="strict",
        tenant="team-a",
        on_pending=OnPending.ALLOW,
        on_error=OnError.ALLOW,
        incumbent_grace="72h",
    )
    assert msgspec.convert({}, PolicySpec) == PolicySpec()


def test_the_words_of_a_manifest_and_of_a_condition_stay_what_they_are() -> None:
    assert [*OnPending] == ["retry", "allow", "deny"]
    assert [*OnError] == ["deny", "allow"]
    selector, glob, grace = "BadNamespaceSelector", "BadImageGlob", "BadIncumbentGrace"
    assert [*Problem] == ["Unreadable", selector, glob, grace, "UnknownTenant", "UnknownPolicyBundle"]


@pytest.mark.parametrize(("spec", "problem", "message"), BROKEN)
def test_a_broken_policy_keeps_its_place_and_never_lets_in(
    spec: dict[str, Any], problem: Problem, message: str
) -> None:
    broken = PolicySpec(priority=10, mode=Mode.OFF, on_error=OnError.ALLOW, **spec)
    below = PolicySpec(priority=1, mode=Mode.OFF)
    assert compile_policy("broken", broken).finding_now(tenants) == Finding(problem, message)
    found = rule(policies(broken=broken, below=below))
    assert found == msgspec.structs.replace(DEFAULTS, policy="broken")


@pytest.mark.parametrize(
    "spec",
    [
        {"policy_bundle": "strict"},
        {"images": ("[a-z]*", "[!a]?[b][c]")},
        {"incumbent_grace": "0"},
        {"incumbent_grace": "1h30m"},
        {"namespace_selector": LabelSelector()},
        expression("In", "x"),
        expression("NotIn", "x", "y"),
        expression("Exists"),
        expression("DoesNotExist"),
    ],
)
def test_nothing_is_wrong_with_a_policy_that_can_be_read(spec: dict[str, Any]) -> None:
    assert compile_policy("p", PolicySpec(**spec)).finding_now(tenants) is None


def test_of_several_things_that_are_wrong_the_first_is_told() -> None:
    everything: dict[str, Any] = {"images": ("[",), "incumbent_grace": "x", "tenant": "away"}
    order = [("namespace_selector", Problem.BAD_SELECTOR), ("images", Problem.BAD_GLOB)]
    order += [("incumbent_grace", Problem.BAD_DURATION), ("tenant", Problem.UNKNOWN_TENANT)]
    everything.update(expression("Like"))
    for name, problem in order:
        finding = compile_policy("p", PolicySpec(**everything)).finding_now(tenants)
        assert finding is not None
        assert finding.problem is problem
        del everything[name]


def test_a_broken_policy_gives_no_grace_by_itself() -> None:
    assert compile_policy("p", PolicySpec(images=("[",), incumbent_grace="72h")).grace == 0
    assert compile_policy("p", PolicySpec(incumbent_grace="x")).grace == 0
    assert compile_policy("p", PolicySpec()).grace == 0
    assert CompiledPolicy(name="p", spec=PolicySpec()).grace == 0


def test_they_are_told_in_the_order_in_which_they_are_asked() -> None:
    ordered = policies(b=PolicySpec(priority=-1), c=PolicySpec(), a=PolicySpec(), d=PolicySpec(priority=1))
    assert [policy.name for policy in ordered] == ["d", "a", "c", "b"]


def test_a_broken_policy_covers_only_what_its_readable_selectors_match() -> None:
    elsewhere = LabelSelector(match_labels={"env": "dev"})
    broken = PolicySpec(priority=10, namespace_selector=elsewhere, images=("[",))
    below = PolicySpec(mode=Mode.WARN)
    assert rule(policies(broken=broken, below=below)).policy == "below"
    assert rule(policies(broken=broken, below=below), {"env": "dev"}).policy == "broken"
    bad_selector = LabelSelector(match_expressions=(Requirement(key="a", operator="Like"),))
    nothing_readable = PolicySpec(priority=10, namespace_selector=bad_selector, images=("quay.io/*", "["))
    assert rule(policies(broken=nothing_readable, below=below)).policy == "broken"
    narrow = PolicySpec(priority=10, namespace_selector=bad_selector, images=("quay.io/*",))
    assert rule(policies(broken=narrow, below=below)).policy == "below"
    assert rule(policies(broken=narrow), image=("quay.io/a:1", "quay.io/a:1")).policy == "broken"


def test_a_namespace_that_cannot_be_had_gets_the_defaults() -> None:
    everything_off = policies(off=PolicySpec(mode=Mode.OFF))
    assert everything_off.rule_for(None, *NGINX, tenants) == DEFAULTS


@pytest.mark.parametrize("glob", ["docker.io/library/*", "nginx:*", "nginx:1.2[0-9]", "*"])
def test_globs_match_the_normal_form_or_what_is_written(glob: str) -> None:
    assert rule(policies(p=PolicySpec(images=(glob,)))).policy == "p"


@pytest.mark.parametrize("glob", ["Nginx:*", "nginx", "docker.io/nginx*", "ginx:*"])
def test_globs_are_about_the_whole_reference(glob: str) -> None:
    assert rule(policies(p=PolicySpec(images=(glob,)))) == DEFAULTS


@pytest.mark.parametrize(
    ("operator", "values", "labels", "expected"),
    [
        ("In", ("a", "b"), {"k": "a"}, True),
        ("In", ("a",), {"k": "c"}, False),
        ("In", ("a",), {}, False),
        ("NotIn", ("a",), {"k": "b"}, True),
        ("NotIn", ("a",), {"k": "a"}, False),
        ("NotIn", ("a",), {}, True),
        ("Exists", (), {"k": ""}, True),
        ("Exists", (), {}, False),
        ("DoesNotExist", (), {}, True),
        ("DoesNotExist", (), {"k": "a"}, False),
    ],
)
def test_expressions_are_evaluated_as_kubernetes_does(
    operator: str, values: tuple[str, ...], labels: dict[str, str], *, expected: bool
) -> None:
    requirement = Requirement(key="k", operator=operator, values=values)
    assert matches(LabelSelector(match_expressions=(requirement,)), labels) is expected
    other = LabelSelector(match_labels={"x": "y"}, match_expressions=(requirement,))
    assert matches(other, {**labels, "x": "y"}) is expected
    assert matches(other, labels) is False


SPECS = st.builds(
    PolicySpec,
    priority=st.integers(-3, 3),
    images=st.sampled_from([(), ("*",), ("quay.io/*",), ("[",)]),
    mode=st.sampled_from(list(Mode)),
    tenant=st.sampled_from(["default", "away"]),
)


@given(st.dictionaries(st.sampled_from("abcdef"), SPECS), st.randoms())
def test_the_order_of_arrival_does_not_matter(specs: dict[str, PolicySpec], random: Any) -> None:
    shuffled = list(specs.items())
    random.shuffle(shuffled)
    assert rule(policies(**dict(shuffled))) == rule(policies(**specs))


@pytest.mark.parametrize("mode", Mode)
def test_while_no_tenant_is_known_a_policy_that_names_none_keeps_its_mode(mode: Mode) -> None:
    """As in a gateway that was started while NATS was away."""
    plain = compile_policy("plain", PolicySpec(mode=mode))
    rule = Policies([plain], DEFAULTS).rule_for({}, "docker.io/library/nginx:1", "nginx:1", lambda _: None)
    assert (rule.policy, rule.mode) == ("plain", mode)
    for named in (PolicySpec(mode=mode, tenant="team-a"), PolicySpec(mode=mode, policy_bundle="strict")):
        broken = compile_policy("named", named)
        rule = Policies([broken], DEFAULTS).rule_for(
            {}, "docker.io/library/nginx:1", "nginx:1", lambda _: None
        )
        assert (rule.policy, rule.mode) == ("named", DEFAULTS.mode)


def test_a_match_remembered_is_of_these_labels_and_this_image_alone() -> None:
    of = policies(
        prod=PolicySpec(mode=Mode.WARN, namespace_selector=LabelSelector(match_labels={"env": "prod"})),
        quay=PolicySpec(mode=Mode.AUDIT, images=("quay.io/*",)),
    )
    for _ in range(2):  # the second time from memory
        assert rule(of).policy == "prod"
        assert rule(of, {"env": "dev"}) == DEFAULTS
        assert rule(of, {"env": "dev"}, ("quay.io/a/b:1", "quay.io/a/b:1")).policy == "quay"
        assert rule(of, {"env": "dev"}, ("docker.io/a/b:1", "quay.io/a")).policy == "quay"


def test_what_is_remembered_still_asks_for_the_tenant() -> None:
    of = policies(named=PolicySpec(tenant="comes", mode=Mode.WARN))
    assert of.rule_for(PROD, *NGINX, lambda _: None).mode is DEFAULTS.mode
    assert of.rule_for(PROD, *NGINX, tenants).mode is Mode.WARN


def test_only_so_many_matches_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.policies.MAX_MATCHES", 3)
    of = policies(quay=PolicySpec(mode=Mode.AUDIT, images=("quay.io/*",)))
    for number in range(10):
        assert rule(of, image=(f"quay.io/a:{number}", f"quay.io/a:{number}")).policy == "quay"
        assert len(of._first) <= 3
