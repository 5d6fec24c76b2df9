"""By whose verdict a running image is judged now."""

import msgspec
import pytest

from services.audit_writer.judgements import Judgements, judge
from services.audit_writer.running import Workload
from shared.contracts import Mode
from shared.policies import LabelSelector, Policies, PolicySpec, compile_policy
from shared.subjects import verdict_key
from tests.audit_writer.seen import BUNDLE, DEFAULTS, HASH, normal, running_image, snapshot, tenant, workload

TENANTS = {
    "default": tenant(),
    "team-a": tenant("team-a", active_bundle_id="strict", bundles={"strict": "ab"}),
}


def judged(*workloads: Workload, policies: dict[str, PolicySpec] | None = None) -> Judgements:
    compiled = [compile_policy(name, spec) for name, spec in (policies or {}).items()]
    labels = {each.namespace: {"team": each.namespace} for each in workloads}
    return judge(snapshot(*workloads, **labels), Policies(compiled, DEFAULTS), TENANTS.get)


def only_in(namespace: str, **spec: object) -> PolicySpec:
    return PolicySpec(namespace_selector=LabelSelector(match_labels={"team": namespace}), **spec)  # type: ignore[arg-type]  # each test names its own fields


def test_without_a_policy_the_defaults_judge_by_the_active_bundle() -> None:
    found = judged(workload()).of("shop", "nginx:1.27")
    assert found is not None
    assert (found.tenant, found.bundle_id, found.bundle_hash) == ("default", BUNDLE, HASH)
    assert found.key == verdict_key("default", BUNDLE, normal("nginx:1.27"))
    assert (found.mode, found.policy) == (Mode.ENFORCE, None)


def test_a_thousand_pods_of_one_image_have_one_key() -> None:
    many = [workload(f"web-{number}", namespace=f"ns-{number % 3}", pods=10) for number in range(100)]
    [key] = judged(*many).keys.values()
    assert key.pods == 1000
    assert len(key.workloads) == 100


def test_one_image_in_two_containers_counts_once() -> None:
    both = (running_image(), running_image(container="sidecar"))
    [key] = judged(workload(images=both, pods=4)).keys.values()
    assert (key.pods, len(key.workloads)) == (4, 1)


def test_one_image_under_two_policies_has_two_keys() -> None:
    policies = {"a": only_in("lab", tenant="team-a", mode=Mode.AUDIT)}
    found = judged(workload(), workload(namespace="lab"), policies=policies)
    assert len(found.keys) == 2
    lab = found.of("lab", "nginx:1.27")
    assert lab is not None
    assert (lab.tenant, lab.bundle_id, lab.mode, lab.policy) == ("team-a", "strict", Mode.AUDIT, "a")


@pytest.mark.parametrize(
    ("policy", "image"),
    [
        (PolicySpec(mode=Mode.OFF), running_image()),
        (PolicySpec(), running_image(reference="")),
        (PolicySpec(tenant="nobody-serves"), running_image()),
    ],
)
def test_what_is_off_or_no_reference_is_not_judged(policy: PolicySpec, image: object) -> None:
    found = judged(workload(images=(image,)), policies={"p": policy})
    if policy.tenant == "default":
        assert found.keys == {}
        assert found.of("shop", "nginx:1.27") is None
    else:  # a broken policy leaves it to the defaults
        assert found.of("shop", "nginx:1.27").tenant == "default"  # type: ignore[union-attr]  # a failure says as much


def test_a_tenant_without_an_active_bundle_judges_nothing() -> None:
    nothing = judge(
        snapshot(workload()), Policies([], DEFAULTS), {"default": tenant(active_bundle_id=None)}.get
    )
    assert nothing.keys == {}


def test_a_namespace_that_is_gone_by_now_is_judged_by_the_defaults() -> None:
    found = msgspec.structs.replace(snapshot(workload()), namespaces={})
    policies = Policies([compile_policy("off", PolicySpec(mode=Mode.OFF))], DEFAULTS)
    assert len(judge(found, policies, TENANTS.get).keys) == 1
