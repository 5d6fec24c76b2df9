"""AdmissionReviews captured from a real API server: each decodes, and its images are the ones written in it.

The captures lie beside the repository, not in it.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from services.gateway.admission import allow, decode_review, encode_answer
from services.gateway.workloads import extract
from shared.images import parse

FOLDER = Path(__file__).parents[2].parent / "shared" / "admission-samples"
FILES = sorted(FOLDER.glob("*.json"))

MIGRATE = "init:registry.example/shop/migrate:3.1"
PROXY = (
    "container:registry.example:5000/mesh/proxy"
    "@sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1"
)
IMAGES = {
    "create-cronjobs": ["container:busybox"],
    "create-deployments": [MIGRATE, "container:nginx:1.25", PROXY],
    "create-jobs": ["container:busybox:1.36"],
    "create-jobs-owned-by-cronjob": ["container:busybox"],
    "create-pods": ["container:quay.io/prometheus/busybox:latest"],
    "create-pods-dryrun": ["container:alpine:3.19"],
    "create-pods-owned-by-job": ["container:busybox"],
    "create-pods-owned-by-replicaset": [MIGRATE, "container:nginx:1.25", PROXY],
    "create-pods-owned-by-statefulset": ["container:postgres:15"],
    "create-replicasets-owned-by-deployment": [MIGRATE, "container:nginx:1.25", PROXY],
    "create-statefulsets": ["container:postgres:15"],
    "update-pods": [],
    "update-pods-ephemeralcontainers": ["ephemeral:docker.io/library/alpine:3.19"],
}
"""What is new in each: kind of container and image, as written."""

OWNERS = {
    "create-jobs-owned-by-cronjob": ("CronJob", "nightly"),
    "create-pods-owned-by-job": ("Job", "nightly-29924071"),
    "create-pods-owned-by-replicaset": ("ReplicaSet", "web-84b9697b7d"),
    "create-pods-owned-by-statefulset": ("StatefulSet", "db"),
    "create-replicasets-owned-by-deployment": ("Deployment", "web"),
}


def test_the_captures_are_there() -> None:
    if not FILES:
        pytest.skip(f"no AdmissionReviews of a real API server: {FOLDER.name}/ is not beside the repository")
    assert {path.stem for path in FILES} == set(IMAGES)


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_decodes_and_its_images_are_found(path: Path, version: str) -> None:
    review = json.loads(path.read_bytes())
    review["apiVersion"] = f"admission.k8s.io/{version}"
    request, found_version = decode_review(json.dumps(review).encode())
    workload = extract(request)
    assert workload is not None
    assert [f"{each.kind}:{each.image}" for each in workload.images] == IMAGES[path.stem]
    for each in workload.images:
        parse(each.image)
    owner = workload.owner and (workload.owner.kind, workload.owner.name)
    assert owner == OWNERS.get(path.stem)
    assert workload.name == review["request"]["object"]["metadata"]["name"]
    assert (workload.namespace, workload.is_being_deleted) == ("default", False)
    assert request.dry_run is (path.stem == "create-pods-dryrun")
    answered = json.loads(encode_answer(allow(request.uid, [], {}), found_version))
    assert answered == {
        "apiVersion": f"admission.k8s.io/{version}",
        "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": True},
    }


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.stem.startswith("update-")], ids=lambda p: p.stem
)
def test_without_the_old_object_every_image_counts(path: Path) -> None:
    review: dict[str, Any] = json.loads(path.read_bytes())
    review["request"]["oldObject"] = None
    workload = extract(decode_review(json.dumps(review).encode())[0])
    assert workload is not None
    assert len(workload.images) == 2
