"""What the stand-in kubelet says about images and Pods."""

from typing import Any

import msgspec
import pytest

from deploy.dev.pods import Pod, full_name, image_id, is_reported, report

NOW = "2026-01-01T00:00:00Z"
DIGEST = "sha256:" + "ab" * 32


def make_pod(**spec: Any) -> Pod:
    metadata = {"name": "p", "namespace": "n", "uid": "u"}
    containers = [{"name": "main", "image": "nginx"}]
    return msgspec.convert({"metadata": metadata, "spec": {"containers": containers, **spec}}, Pod)


def with_status(pod: Pod, status: dict[str, Any]) -> Pod:
    return msgspec.convert({**msgspec.to_builtins(pod), "status": status}, Pod)


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("team/app", "docker.io/team/app:latest"),
        ("r.example:5000/app", "r.example:5000/app:latest"),
        ("localhost/app:1", "localhost/app:1"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}"),
    ],
)
def test_full_name(reference: str, full: str) -> None:
    assert full_name(reference) == full


def test_image_id_takes_the_digest_of_the_reference_then_the_registry_then_makes_one_up() -> None:
    other = "sha256:" + "cd" * 32
    assert image_id(f"nginx:1@{DIGEST}", {"nginx:1": other}) == f"docker.io/library/nginx@{DIGEST}"
    assert image_id("nginx:1", {"nginx:1": other}) == f"docker.io/library/nginx@{other}"
    assert image_id("nginx", {"docker.io/library/nginx:latest": other}) == f"docker.io/library/nginx@{other}"
    assert image_id("r.example:5000/a", {}).startswith("r.example:5000/a@sha256:")


def test_report_settles_a_pod_until_it_asks_for_more() -> None:
    pod = make_pod(initContainers=[{"name": "first", "image": "busybox"}])
    assert not is_reported(pod)
    running = with_status(pod, report(pod, "Running", {}, NOW))
    assert is_reported(running)
    debugged = msgspec.structs.replace(
        running, spec=make_pod(ephemeralContainers=[{"name": "look", "image": "busybox"}]).spec
    )
    assert not is_reported(debugged)


def test_init_containers_have_ended_and_sidecars_run() -> None:
    init = [
        {"name": "first", "image": "busybox"},
        {"name": "proxy", "image": "envoy", "restartPolicy": "Always"},
    ]
    statuses = report(make_pod(initContainers=init), "Running", {}, NOW)["initContainerStatuses"]
    assert [list(status["state"]) for status in statuses] == [["terminated"], ["running"]]


def test_a_daemonset_names_its_node() -> None:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-2"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    assert make_pod(affinity={"nodeAffinity": required}).wanted_nodes == ["node-2"]
    assert make_pod().wanted_nodes == []
