"""Pods become workloads: one entry a controller, every image with its digests, bounded whatever Pods say."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit_writer import gathering
from services.audit_writer.gathering import Gathering
from services.audit_writer.pods import Pod
from services.audit_writer.running import RunningImage, Workload
from shared.contracts import ContainerKind, OwnerClaim
from tests.audit_writer.decisions import DIGEST, START

OTHER = "sha256:" + "cd" * 32
LABELS = ("release", "app.kubernetes.io/instance")


def a_pod(name: str = "web-5c-1", image: str = "nginx:1", digest: str = DIGEST, **more: Any) -> Pod:
    """A Pod of ReplicaSet web-5c; `owner`: another name and uid; `""`: none."""
    owner, uid = more.pop("owner", ("web-5c", "rs-uid")) or ("", "")
    reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": uid, "controller": True}
    metadata = {
        "name": name,
        "namespace": more.pop("namespace", "shop"),
        "uid": f"uid-of-{name}",
        "labels": more.pop("labels", {}),
        "creationTimestamp": (START + timedelta(seconds=more.pop("after", 0))).isoformat(),
        "ownerReferences": [reference] if owner else [],
    }
    statuses = [{"name": "web", "image": image, "imageID": f"r.example/x@{digest}"}] if digest else []
    status = {"phase": more.pop("phase", "Running"), "containerStatuses": statuses, **more.pop("status", {})}
    spec = {"containers": [{"name": "web", "image": image}], **more}
    found = {"metadata": metadata, "spec": spec, "status": status}
    return msgspec.json.decode(msgspec.json.encode(found), type=Pod)


def gathered(*pods: Pod) -> dict[tuple[str, str], Workload]:
    found = Gathering(LABELS)
    for pod in pods:
        found.add(pod)
    return found.workloads()


def the_image(workload: Workload) -> RunningImage:
    [image] = workload.images
    return image


def test_a_thousand_pods_are_one_entry() -> None:
    found = gathered(*(a_pod(f"web-5c-{number}", after=number) for number in range(1000)))
    [((namespace, name), workload)] = found.items()
    assert (namespace, name) == ("shop", "replicaset-web-5c")
    assert (workload.pods, workload.since, workload.release) == (1000, START, "web-5c")
    assert workload.release_matched == "web-5c-0"
    assert workload.fake_release
    assert not workload.stands_alone
    image = the_image(workload)
    assert image.reference == "docker.io/library/nginx:1"
    assert image.digests == {DIGEST}


def test_a_release_is_what_the_first_label_says() -> None:
    [workload] = gathered(a_pod(labels={"app.kubernetes.io/instance": "b", "release": "a"})).values()
    assert (workload.release, workload.release_matched, workload.fake_release) == ("a", "a", False)


def test_a_pod_without_controller_stands_for_itself() -> None:
    [((_, name), workload)] = gathered(a_pod("lonely", owner="")).items()
    assert name == "pod-lonely"
    assert workload.stands_alone
    assert workload.owner == OwnerClaim(api_version="v1", kind="Pod", name="lonely", uid="uid-of-lonely")


def test_every_kind_of_image_with_its_own_digest() -> None:
    pod = a_pod(
        initContainers=[{"name": "first", "image": "a"}],
        ephemeralContainers=[{"name": "look", "image": "c"}],
        volumes=[{"name": "model", "image": {"reference": "r.example/model:1"}}, {"name": "tmp"}],
        status={
            "initContainerStatuses": [{"name": "first", "image": "a", "imageID": f"a@{OTHER}"}],
            "ephemeralContainerStatuses": [{"name": "look", "image": "c", "imageID": ""}],
        },
    )
    [workload] = gathered(pod).values()
    found = {each.container: (each.container_kind, each.image, set(each.digests)) for each in workload.images}
    assert found == {
        "first": (ContainerKind.INIT, "a", {OTHER}),
        "web": (ContainerKind.CONTAINER, "nginx:1", {DIGEST}),
        "look": (ContainerKind.EPHEMERAL, "c", set()),
        "model": (ContainerKind.VOLUME, "r.example/model:1", set()),
    }


def test_a_container_and_an_init_container_of_one_name_are_not_mixed_up() -> None:
    pod = a_pod(initContainers=[{"name": "web", "image": "nginx:1"}])
    [workload] = gathered(pod).values()
    digests = {each.container_kind: set(each.digests) for each in workload.images}
    assert digests == {ContainerKind.INIT: set(), ContainerKind.CONTAINER: {DIGEST}}


def test_a_tag_that_has_moved_runs_as_two_digests() -> None:
    [workload] = gathered(a_pod("a"), a_pod("b", digest=OTHER), a_pod("c", digest="")).values()
    assert the_image(workload).digests == {DIGEST, OTHER}


def test_what_is_no_reference_is_there_all_the_same() -> None:
    [workload] = gathered(a_pod(image="NOT A REFERENCE", digest="")).values()
    assert the_image(workload).reference == ""


@pytest.mark.parametrize(("phase", "runs"), [("Succeeded", 0), ("Failed", 0), ("Running", 1), ("Pending", 1)])
def test_ended_pods_do_not_run(phase: str, runs: int) -> None:
    found = Gathering(LABELS)
    found.add(a_pod(phase=phase))
    assert (len(found.workloads()), len(found.digests())) == (runs, runs)


def test_a_pretender_does_not_take_a_controllers_audit() -> None:
    true, false = a_pod("old", after=0), a_pod("evil", digest=OTHER, owner=("web-5c", "made-up"), after=9)
    for order in ((true, false), (false, true)):
        found = gathered(*order)
        assert set(found) == {("shop", "replicaset-web-5c"), ("shop", "pod-evil")}
        assert the_image(found["shop", "replicaset-web-5c"]).digests == {DIGEST}
        assert not found["shop", "pod-evil"].stands_alone


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MAX_IMAGES", 3)
    monkeypatch.setattr(gathering, "MAX_DIGESTS", 2)
    monkeypatch.setattr(gathering, "MAX_REFERENCES", 2)
    found = Gathering(LABELS)
    for number in range(9):
        found.add(a_pod(f"p{number}", f"app:{number}"))
        found.add(a_pod(f"q{number}", "app:0", f"sha256:{number:064x}"))
    [workload] = found.workloads().values()
    assert [each.image for each in workload.images] == ["app:0", "app:1", "app:2"]
    assert len(workload.images[0].digests) == 2
    assert len(found.digests()["shop", DIGEST]) == 2


def test_digests_are_told_apart_by_namespace() -> None:
    found = Gathering(LABELS)
    found.add(a_pod("a", "x:1"))
    found.add(a_pod("b", "x:2"))
    found.add(a_pod("c", "x:3", namespace="other"))
    assert found.digests() == {("shop", DIGEST): ("x:1", "x:2"), ("other", DIGEST): ("x:3",)}


PODS = st.builds(
    a_pod,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["nginx:1", "nginx:2", ""]),
    st.sampled_from([DIGEST, OTHER, ""]),
    namespace=st.sampled_from(["shop", "other"]),
    phase=st.sampled_from(["Running", "Pending", "Failed"]),
    owner=st.sampled_from(["", ("web-5c", "1"), ("web-5c", "2"), ("db", "3")]),
    after=st.integers(0, 3),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PODS, max_size=8))
def test_nothing_that_runs_is_lost_and_nothing_is_counted_twice(pods: list[Pod]) -> None:
    found = gathered(*pods)
    assert all(key == (each.namespace, each.audit) for key, each in found.items())
    assert sum(each.pods for each in found.values()) <= sum(not pod.has_ended for pod in pods)
    named = {(each.metadata.namespace, each.audit) for each in pods if not each.has_ended}
    assert named <= set(found)
