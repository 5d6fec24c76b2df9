"""`moorgate what-if` against the real API server and the Anchore simulator: what it says, and that it leaves no trace."""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dev.anchore.faults import Fault
from deploy.dev.ports import free_port
from tests.cli.what_if.conftest import BUNDLES, CHECKED, Stage, predefined
from tests.support.anchore import bundle, rule, selection

pytestmark = pytest.mark.cluster

GOOD, CRITICAL = "nginx:1.25", "docker.io/library/debian:10"
MAX_AT_ONCE = 8


def release(answer: Any, name: str) -> dict[str, Any]:
    [found] = [each for each in answer["releases"] if each["release"] == name]
    assert isinstance(found, dict)
    return found


def rooted() -> dict[str, Any]:
    """Stops what has a CRITICAL finding, and nginx by its name."""
    listed = {**selection(registry="docker.io", repository="library/nginx"), "id": "no-nginx"}
    return {**predefined("reject_critical"), "id": "candidate", "blacklisted_images": [listed]}


async def test_what_would_break_and_what_would_be_mended(stage: Stage, api: str, tmp_path: Path) -> None:
    await stage.runs(shop=[GOOD], old=[CRITICAL, GOOD], cache=["docker.io/library/redis:7"])
    moorgate = stage.moorgate.given(MOORGATE_ANCHORE_API=api)
    file = tmp_path / "candidate.json"
    file.write_text(json.dumps(rooted()))
    before = stage.records()
    stage.simulator.counters.reset()
    answer = await moorgate(*stage.asked(file), "-o", "json")
    assert (answer.code, answer.stderr) == (1, "")
    assert stage.records() == before
    calls = stage.simulator.counters.calls
    assert (calls["image_get"], calls["check"]) == (3, 6)
    assert (calls["policy_add"], calls["policy_delete"]) == (1, 1)
    assert not calls.keys() - {"image_get", "check", "policies_list", "policy_add", "policy_delete"}
    found = answer.json()
    assert (found["bundle"], found["replaces"]) == ("candidate", {"default": CHECKED})
    assert [each["release"] for each in found["releases"]] == ["old", "shop", "cache"]
    shop, old, cache = (release(found, name) for name in ("shop", "old", "cache"))
    assert (shop["would"], old["would"], cache["would"]) == ("breaks", "breaks", "passes")
    assert (old["counts"]["breaks"], old["counts"]["fails"]) == (1, 1)
    [image] = shop["images"]
    assert (image["before"], image["after"], image["letInBy"]) == ("pass", "fail", "")
    assert [each["trigger"] for each in image["newly"]] == [
        f"{'black' if api == 'v1' else 'deny'}listed_images"
    ]
    text = (await moorgate(*stage.asked(file))).stdout
    assert f"bundle candidate ({file}) in the place of {CHECKED} (tenant default)" in text
    assert "gate bundle\n        stop  " in text
    assert "of 3 releases 2 would break, 1 passes either way" in text
    mended = await moorgate(*stage.asked("allow_all_and_warn"), "-o", "yaml")
    assert mended.code == 0
    assert release(yaml.safe_load(mended.stdout), "old")["would"] == "mended"
    assert stage.records() == before


async def test_findings_that_would_newly_stop_it(stage: Stage) -> None:
    """Of an image that fails already only the count is told; of one that newly fails what stops it."""
    stage.add("allow_all_and_warn", active=True)
    await stage.runs(old=[CRITICAL])
    answer = await stage.what_if("reject_high")
    assert answer.code == 1
    assert "container c0 of Pod/pod-old" in answer.stdout
    assert f"{CRITICAL} (sha256:" in answer.stdout
    assert "gate vulnerabilities\n        stop  package: " in answer.stdout


async def test_what_is_let_in_all_the_same_is_marked(stage: Stage) -> None:
    names = [f"r-{secrets.token_hex(4)}" for _ in range(3)]
    whitelisted, warned, off = names
    await stage.runs(**{whitelisted: [GOOD], warned: ["redis:7"], off: ["busybox:1.36"]})
    namespace = stage.kube.namespace
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    item = {"creator": "t", "reason": "t", "namespaces": [namespace]}
    made = [
        ("WhiteListItem", whitelisted, item),
        ("ImagePolicy", warned, {"namespaceSelector": selector, "images": ["*redis*"], "mode": "warn"}),
        ("ImagePolicy", off, {"namespaceSelector": selector, "images": ["*busybox*"], "mode": "off"}),
    ]
    api_version = "security.banzaicloud.com/v1alpha1"
    await stage.kube.create(
        *(
            {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
            for kind, name, spec in made
        )
    )
    try:
        answer = await stage.what_if("deny_all", "-o", "json")
        found = answer.json()
        assert answer.code == 0
        assert [release(found, name)["would"] for name in names] == ["let_in", "let_in", "aside"]
        ways = [release(found, name)["images"][0]["why"] for name in names]
        assert ways == [
            f"WhiteListItem {whitelisted}",
            f"mode warn of ImagePolicy {warned}",
            f"mode off of ImagePolicy {off}",
        ]
    finally:
        for kind, name, _ in made:
            await stage.kube.ok("delete", kind.lower(), name)


async def test_images_of_other_bundles_and_tenants_are_told(stage: Stage, tmp_path: Path) -> None:
    images = {"named": [GOOD], "foreign": ["redis:7"], "plain": ["busybox:1.36"]}
    await stage.runs(**images)
    stage.add("reject_high")
    selector = {"matchLabels": {"kubernetes.io/metadata.name": stage.kube.namespace}}
    specs = {
        "named": {"namespaceSelector": selector, "images": ["*nginx*"], "policyBundle": "reject_high"},
        "foreign": {"namespaceSelector": selector, "images": ["*redis*"], "tenant": "others"},
    }
    made = {name: f"{name}-{secrets.token_hex(3)}" for name in specs}
    for name, spec in specs.items():
        metadata = {"name": made[name]}
        await stage.kube.create(
            {
                "apiVersion": "security.banzaicloud.com/v1alpha1",
                "kind": "ImagePolicy",
                "metadata": metadata,
                "spec": spec,
            }
        )
    try:
        answer = await stage.what_if("deny_all", "-o", "json")
        found = answer.json()
        assert answer.code == 1
        assert {name: release(found, name)["would"] for name in images} == {
            "named": "aside",
            "foreign": "unknown",
            "plain": "breaks",
        }
        [foreign] = release(found, "foreign")["images"]
        assert foreign["why"] == "no credentials for tenant others are given (MOORGATE_TENANTS_FILE)"
        # The bundle that the policy names, changed: it alone is meant.
        changed = tmp_path / "changed.json"
        changed.write_text(json.dumps({**predefined("deny_all"), "id": "reject_high"}))
        found = (await stage.what_if(changed, "-o", "json")).json()
        assert found["replaces"] == {"default": "reject_high"}
        assert (release(found, "named")["would"], release(found, "plain")["would"]) == ("breaks", "aside")
        found = (await stage.what_if(changed, "-o", "json", "--replaces", CHECKED)).json()
        assert (release(found, "named")["would"], release(found, "plain")["would"]) == ("aside", "breaks")
        found = (await stage.what_if("deny_all", "-o", "json", "--tenant", "default")).json()
        assert "foreign" not in {each["release"] for each in found["releases"]}
    finally:
        await stage.kube.ok("delete", "imagepolicies", *made.values())


async def test_what_cannot_be_judged_is_told(stage: Stage) -> None:
    strange, slow = (f"registry.example/bulk/{secrets.token_hex(4)}:1" for _ in range(2))
    stage.serves(strange, f"sha256:{secrets.token_hex(32)}")
    stage.serves(slow, stage.simulator.preload(slow).digest)
    await stage.starts(strange=[strange], slow=[slow])
    [record] = [each for each in stage.space.images.values() if each.tag(slow)]
    record.status = "analyzing"
    stage.simulator.set_analysis_seconds(3600)
    answer = await stage.what_if("allow_all_and_warn", "-o", "json")
    assert answer.code == 3
    found = answer.json()
    assert release(found, "strange")["images"][0]["why"] == "Anchore does not know the digest that runs"
    assert release(found, "slow")["images"][0]["why"] == "Anchore has not analysed it (analyzing)"
    assert "2 not known" in (await stage.what_if("allow_all_and_warn")).stdout


async def test_a_namespace_that_nobody_asks_about_is_not_touched(stage: Stage) -> None:
    await stage.runs(free=[GOOD])
    await stage.watch_over("another")
    answer = await stage.what_if("deny_all", "-o", "json")
    assert answer.code == 0
    [image] = release(answer.json(), "free")["images"]
    assert (image["would"], image["why"]) == ("aside", "no webhook asks about the namespace")


async def test_of_all_namespaces_unless_one_is_named(stage: Stage) -> None:
    await stage.runs(everywhere=[GOOD])
    asked = ("what-if", "--bundle", str(BUNDLES / "deny_all.json"))
    answer = await stage.moorgate(*asked, "-o", "json")
    assert answer.code == 1
    assert release(answer.json(), "everywhere")["namespace"] == stage.kube.namespace


async def test_content_that_anchore_has_under_its_id_is_not_added(stage: Stage) -> None:
    await stage.runs(shop=[GOOD])
    stage.add("deny_all")
    stage.simulator.counters.reset()
    answer = await stage.what_if("deny_all")
    assert answer.code == 1
    assert "policy_add" not in stage.simulator.counters.calls
    assert "policy_delete" not in stage.simulator.counters.calls
    assert (await stage.what_if(CHECKED)).code == 0


async def test_each_trouble_is_one_line(stage: Stage, tmp_path: Path) -> None:
    await stage.runs(shop=[GOOD])
    files = {
        "no.json": "{",
        "list.json": "[]",
        "other.json": '{"apiVersion": "v1"}',
        "gate.json": json.dumps(bundle(rule("no-such-gate", "package"))),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    before = stage.records()

    def asked(bundle: str, *more: str) -> tuple[str, ...]:
        return (*stage.asked(tmp_path / bundle), *more)

    good = stage.asked("deny_all")
    await stage.moorgate.refuses(
        (2, "parameter --bundle requires an argument", ("what-if",)),
        (2, "--bundle: cannot read", asked("nowhere.json")),
        (2, "is no policy bundle", asked("no.json")),
        (2, "is no policy bundle", asked("list.json")),
        (2, "is no policy bundle", asked("other.json")),
        (2, "Anchore refuses", asked("gate.json")),
        (2, "--replaces is 'x': Anchore has no such bundle", (*good, "--replaces", "x")),
        (2, "--tenant is 'x': credentials are given for default", (*good, "--tenant", "x")),
        (2, "the cluster has no such namespace", ("what-if", "--bundle", good[2], "-n", "nowhere")),
        (2, "a namespace has 1 to 63 characters", ("what-if", "--bundle", good[2], "-n", "No")),
        (2, "no cluster", (*good, "--context", "nowhere")),
    )
    nobody = f"http://127.0.0.1:{free_port()}"
    cases = {
        "anchore is away: ": {"MOORGATE_ANCHORE_URL": nobody},
        "does not accept the password of 'admin'": {"MOORGATE_ANCHORE_PASSWORD": "wrong"},
        "you have no right to do that": {"KUBECONFIG": str(stage.plane.kubeconfig("developer"))},
    }
    for said, settings in cases.items():
        await stage.moorgate.given(**settings).refuses((3, said, good))
    stage.simulator.add_fault(
        Fault(operation="policy_add", kind="error", status=403, message="no permission")
    )
    await stage.moorgate.refuses((3, "give it the role full-control or policy-editor", good))
    without = {name: value for name, value in stage.moorgate.environment.items() if "ANCHORE" not in name}
    await type(stage.moorgate)(without).refuses((2, "MOORGATE_ANCHORE_PASSWORD_FILE", good))
    assert stage.records() == before


async def test_nothing_runs(stage: Stage) -> None:
    stage.simulator.counters.reset()
    answer = await stage.what_if("deny_all")
    assert (answer.code, answer.stderr) == (0, "")
    assert answer.stdout.endswith("nothing runs there: nothing would break\n")
    assert set(stage.simulator.counters.calls) == {"policies_list"}


async def test_a_bundle_without_a_mapping_for_all_is_warned_of(stage: Stage, tmp_path: Path) -> None:
    narrow = tmp_path / "narrow.json"
    content = bundle()
    content["mappings"][0]["registry"] = "registry.example"
    narrow.write_text(json.dumps(content))
    await stage.runs(shop=[GOOD])
    answer = await stage.what_if(narrow)
    assert answer.code == 0
    assert "has no mapping for all images" in answer.trouble
    strict = stage.moorgate.given(MOORGATE_ON_UNMAPPED="fail")
    answer = await strict(*stage.asked(narrow))
    assert answer.code == 1
    assert "no mapping of the bundle matches the image" in answer.stdout


@pytest.mark.long
async def test_three_hundred_images(stage: Stage) -> None:
    images = [f"registry.example/bulk/n{number}:1" for number in range(300)]
    halves = {
        "bulk-0": images[:150],
        "bulk-1": images[150:],
        "again-0": images[:150],
        "again-1": images[150:],
    }
    await stage.runs(**halves)
    stage.simulator.set_latency(0.01, "check")
    before = stage.records()
    stage.simulator.counters.reset()
    answer = await stage.what_if("deny_all", "-o", "json")
    counters = stage.simulator.counters
    assert answer.code == 1
    assert sum(each["counts"]["breaks"] for each in answer.json()["releases"]) == 600
    assert (counters.calls["image_get"], counters.calls["check"]) == (300, 600)
    assert sum(counters.calls.values()) == 903
    assert counters.most_concurrent <= MAX_AT_ONCE
    assert stage.records() == before
