"""Which digests a Pod's kubelet reports, however its runtime writes them."""

import msgspec
import pytest

from services.audit_writer.pods import Pod, running_digests
from shared.contracts import OwnerClaim

DIGEST = "sha256:" + "ab" * 32


def reported(image_id: str, *, phase: str = "Running", of: str = "containerStatuses") -> Pod:
    status = {"phase": phase, of: [{"image": "docker.io/library/nginx:1", "imageID": image_id}]}
    found = {"metadata": {"name": "web", "namespace": "shop"}, "status": status}
    return msgspec.json.decode(msgspec.json.encode(found), type=Pod)


@pytest.mark.parametrize("of", ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"])
def test_a_reported_digest_counts_whatever_container_it_is_of(of: str) -> None:
    found = running_digests(reported(f"docker.io/library/nginx@{DIGEST}", of=of))
    assert found == [(DIGEST, "docker.io/library/nginx:1")]


@pytest.mark.parametrize(
    "image_id",
    [
        f"docker-pullable://docker.io/library/nginx@{DIGEST}",
        f"registry.example:5000/a/b@{DIGEST}",
        f"@{DIGEST}",
    ],
)
def test_runtimes_write_it_differently(image_id: str) -> None:
    assert [digest for digest, _ in running_digests(reported(image_id))] == [DIGEST]


@pytest.mark.parametrize(
    "image_id", ["", DIGEST, f"docker://{DIGEST}", "docker.io/library/nginx@sha256:12", f"a@{DIGEST}x"]
)
def test_an_id_that_is_no_repositorys_digest_does_not_count(image_id: str) -> None:
    assert running_digests(reported(image_id)) == []


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_what_has_ended_runs_no_more(phase: str) -> None:
    assert running_digests(reported(f"docker.io/library/nginx@{DIGEST}", phase=phase)) == []


def test_only_the_controlling_reference_counts() -> None:
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5c", "uid": "2", "controller": True},
    ]
    metadata = {"name": "web-5c-x", "namespace": "shop", "uid": "3", "ownerReferences": references}
    pod = msgspec.json.decode(msgspec.json.encode({"metadata": metadata}), type=Pod)
    assert pod.owner == OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name="web-5c", uid="2")
    assert pod.audit == "replicaset-web-5c"
