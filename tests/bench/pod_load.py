"""Load on an API server from another process: Pods of one ReplicaSet, made by `load/pods` (Go), sixteen at once."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec

from deploy.dev.kubeapi import read_kubeconfig
from tests.bench import go_programs, webhook_load

WORKERS = 16


class Created(msgspec.Struct, frozen=True):
    """What the load saw; latencies in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int
    error: str
    """The first."""


def template(folder: Path, owner: dict[str, Any]) -> Path:
    """The Pod of the webhook load, as one that `owner` (a ReplicaSet) has made, with a place for its name."""
    spec = json.loads(webhook_load.SAMPLE.read_text())["request"]["object"]["spec"]
    for each in (*spec["initContainers"], *spec["containers"]):
        each.pop("resources", None)
    reference = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    metadata = {"name": "@NAME@", "labels": {"app": "web", "release": "shop"}, "ownerReferences": [reference]}
    path = folder / "pod.json"
    path.write_text(
        json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _plain(spec)})
    )
    return path


async def create(
    kubeconfig: Path, namespace: str, pod: Path, *, prefix: str, count: int, dry_run: bool
) -> Created:
    """Raises `RuntimeError` when one of them was refused."""
    known = read_kubeconfig(kubeconfig)
    url = f"{known.server}/api/v1/namespaces/{namespace}/pods{'?dryRun=All' if dry_run else ''}"
    process = await asyncio.create_subprocess_exec(
        go_programs.pods(),
        f"-url={url}",
        f"-ca={known.ca_file}",
        f"-token={known.token}",
        f"-body={pod}",
        f"-prefix={prefix}",
        f"-count={count}",
        f"-workers={WORKERS}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load ended with {process.returncode}: {said.decode()[-500:]}")
    found = msgspec.json.decode(said, type=Created)
    if found.errors:
        raise RuntimeError(f"{found.errors} of {found.requests} Pods were refused: {found.error}")
    return found


def _plain(spec: dict[str, Any]) -> dict[str, Any]:
    """Without what the API server's own admission has put there."""
    return {key: value for key, value in spec.items() if key not in ("priority", "preemptionPolicy")}
