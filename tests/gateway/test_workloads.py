"""Which images each kind of object brings, and what of them is new."""

from typing import Any

import pytest

from services.gateway.admission import BadReview
from services.gateway.workloads import Workload, extract
from shared.contracts import ContainerKind, OwnerClaim
from shared.pods import PodImage
from tests.support.builders import TYPES, admission, holder, pod

CONTAINER, INIT = ContainerKind.CONTAINER, ContainerKind.INIT
EPHEMERAL, VOLUME = ContainerKind.EPHEMERAL, ContainerKind.VOLUME


def extracted(new: dict[str, Any] | None, **request: Any) -> Workload:
    workload = extract(admission(new, **request))
    assert workload is not None
    return workload


def names(workload: Workload) -> list[str]:
    return [each.image for each in workload.images]


def with_spec(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": spec}


@pytest.mark.parametrize("kind", TYPES)
def test_each_kind_that_holds_pods(kind: str) -> None:
    new = holder(kind, "nginx:1", "r.example/proxy@sha256:" + "ab" * 32, labels={"release": "shop"})
    workload = extracted(new, kind=kind)
    assert names(workload) == ["nginx:1", "r.example/proxy@sha256:" + "ab" * 32]
    assert (workload.kind, workload.name, workload.namespace) == (kind, "web", "shop")
    assert workload.labels == {"release": "shop"}
    assert workload.uid == "uid-of-web"
    assert workload.is_pod is (kind == "Pod")


@pytest.mark.parametrize("kind", TYPES)
def test_an_update_brings_only_what_the_old_object_lacks(kind: str) -> None:
    old, new = holder(kind, "nginx:1", "redis:7"), holder(kind, "nginx:2", "redis:7", "nginx:1", "redis:7")
    assert names(extracted(new, kind=kind, operation="UPDATE", oldObject=old)) == ["nginx:2"]
    assert names(extracted(old, kind=kind, operation="UPDATE", oldObject=old)) == []
    assert len(names(extracted(new, kind=kind, operation="UPDATE"))) == 4
    assert len(names(extracted(new, kind=kind, operation="CREATE", oldObject=old))) == 4


def test_every_place_of_a_pod_that_names_an_image() -> None:
    new = with_spec(
        initContainers=[{"name": "first", "image": "a"}],
        containers=[{"name": "main", "image": "b"}, {"name": "side", "image": "b"}],
        ephemeralContainers=[{"name": "look", "image": "c", "targetContainerName": "main"}],
        volumes=[
            {"name": "plain", "emptyDir": {}},
            {"name": "model", "image": {"reference": "r.example/model:1", "pullPolicy": "Always"}},
            {"name": "later", "image": {"pullPolicy": "Always"}},
            {"name": "none", "image": None},
        ],
    )
    assert extracted(new).images == (
        PodImage("first", INIT, "a"),
        PodImage("main", CONTAINER, "b"),
        PodImage("side", CONTAINER, "b"),
        PodImage("look", EPHEMERAL, "c"),
        PodImage("model", VOLUME, "r.example/model:1"),
    )


def test_a_debug_container_is_new_and_the_rest_is_not() -> None:
    old = pod("bad:1")
    new = pod("bad:1")
    new["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "busybox"}]
    request = {"operation": "UPDATE", "subResource": "ephemeralcontainers", "oldObject": old}
    assert extracted(new, **request).images == (PodImage("debugger", EPHEMERAL, "busybox"),)


def test_an_image_that_moves_between_containers_is_not_new() -> None:
    old = with_spec(
        initContainers=[{"name": "a", "image": "a:1"}], containers=[{"name": "b", "image": "b:1"}]
    )
    new = with_spec(
        initContainers=[{"name": "a", "image": "b:1"}], containers=[{"name": "b", "image": "a:1"}]
    )
    assert names(extracted(new, operation="UPDATE", oldObject=old)) == []


def test_lists_may_be_null_or_absent() -> None:
    nulls = dict.fromkeys(("containers", "initContainers", "ephemeralContainers", "volumes"))
    assert names(extracted(with_spec(**nulls))) == []
    assert names(extracted({"spec": {}})) == []
    bare = {"metadata": {"name": "p", "labels": None, "ownerReferences": None}, "spec": {}}
    workload = extracted(bare)
    assert (workload.labels, workload.owner) == ({}, None)


@pytest.mark.parametrize("kind", sorted(set(TYPES) - {"Pod", "CronJob"}))
def test_a_template_may_be_null_or_bare(kind: str) -> None:
    bare: list[dict[str, Any] | None] = [
        None,
        {},
        {"metadata": None},
        {"metadata": {"labels": None}},
        {"spec": {}},
    ]
    for template in bare:
        workload = extracted({"spec": {"template": template}}, kind=kind)
        assert (names(workload), workload.labels) == ([], {})


def test_a_cron_job_without_a_job_template_is_half_formed() -> None:
    with pytest.raises(BadReview, match="CronJob"):
        extract(admission({"spec": {}}, kind="CronJob"))


def test_a_container_may_lack_an_image_as_templates_do() -> None:
    assert names(extracted(with_spec(containers=[{"name": "main"}]))) == [""]


def test_what_an_object_does_not_say_is_empty() -> None:
    bare = with_spec(containers=[{}], volumes=[{"image": {"reference": "r.example/model:1"}}])
    bare["metadata"] = {"ownerReferences": [{"controller": True}]}
    workload = extracted(bare, name="")
    assert workload.images == (PodImage("", CONTAINER, ""), PodImage("", VOLUME, "r.example/model:1"))
    assert (workload.name, workload.uid, workload.labels) == ("", "", {})
    assert workload.owner == OwnerClaim(api_version="", kind="", name="", uid="")


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "DELETE"},
        {"operation": "CONNECT"},
        {"operation": "create"},
        {"operation": ""},
        {"subResource": "status"},
        {"subResource": "binding"},
        {"subResource": "eviction"},
        {"subResource": "scale"},
        {"kind": "Service"},
        {"kind": "ConfigMap"},
    ],
)
def test_what_brings_no_image_is_not_looked_at(request_: dict[str, str]) -> None:
    assert extract(admission({"nonsense": 1}, **request_)) is None


def test_a_kind_of_another_group_is_another_kind() -> None:
    foreign = {"group": "example.org", "version": "v1", "kind": "Deployment"}
    request = admission(holder("Deployment", "nginx"))
    assert extract(admission(holder("Deployment", "nginx"), kind="Deployment")) is not None
    changed = type(request)(**{**_fields(request), "kind": type(request.kind)(**foreign)})
    assert extract(changed) is None


def _fields(request: Any) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__struct_fields__}


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_an_admission_without_an_object_is_half_formed(operation: str) -> None:
    for kind in ("Pod", "CronJob"):
        with pytest.raises(BadReview, match=f"^{operation} of a {kind} without an object$"):
            extract(admission(None, kind=kind, operation=operation))


@pytest.mark.parametrize(
    "new",
    [
        {},
        {"spec": None},
        {"spec": []},
        {"spec": {"containers": {}}},
        {"spec": {"containers": ["nginx"]}},
        {"spec": {"containers": [{"name": 1, "image": "nginx"}]}},
        {"spec": {"containers": [{"name": "c", "image": ["nginx"]}]}},
        {"spec": {"volumes": [{"image": "nginx"}]}},
        {"spec": {}, "metadata": {"labels": ["a"]}},
        {"spec": {}, "metadata": {"labels": {"release": 1}}},
        {"spec": {}, "metadata": {"ownerReferences": [{"controller": "yes"}]}},
    ],
)
def test_an_object_of_the_wrong_shape_is_a_bad_review(new: dict[str, Any]) -> None:
    with pytest.raises(BadReview, match="not a readable Pod"):
        extract(admission(new))
    with pytest.raises(BadReview, match="not a readable Pod"):
        extract(admission(pod("nginx"), operation="UPDATE", oldObject=new))


def test_the_owner_is_the_one_reference_that_controls() -> None:
    def reference(name: str, **more: Any) -> dict[str, Any]:
        return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u", **more}

    owners = [reference("a"), reference("b", controller=False), reference("c", controller=True)]
    owned = extracted(pod("nginx", ownerReferences=owners))
    assert owned.owner == OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name="c", uid="u")
    assert extracted(pod("nginx", ownerReferences=owners[:2])).owner is None
    assert names(owned) == ["nginx"], "never skipped because of an owner: anybody can name one"


def test_nothing_is_on_its_way_out_unless_somebody_says_so() -> None:
    plain = Workload(kind="Pod", namespace="shop", name="web", uid="u", labels={}, owner=None, images=())
    assert not plain.is_being_deleted


def test_the_name_under_generate_name_is_the_objects_own() -> None:
    assert extracted(pod("nginx", name="web-x2x4z"), name="").name == "web-x2x4z"
    assert extracted({"metadata": {}, "spec": {}}, name="web-0").name == "web-0"


def test_an_object_on_its_way_out_is_told_from_one_that_only_says_so() -> None:
    leaving = pod("nginx", deletionTimestamp="2026-11-23T12:00:00Z")
    assert extracted(leaving, operation="UPDATE", oldObject=leaving).is_being_deleted
    assert not extracted(pod("nginx")).is_being_deleted
    assert not extracted(leaving, operation="CREATE").is_being_deleted, "what is being created isn't deleted"
    claim = extracted(leaving, operation="UPDATE", oldObject=pod("redis"))
    assert not claim.is_being_deleted, "the old object says what the API server knows"
