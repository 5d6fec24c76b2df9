"""How a Pod and its containers fare, as a kubelet reports it; pure, no I/O."""

from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.dev.installed.containers import Json
from deploy.dev.pods import full_name, image_id

READINESS = ("Ready", "ContainersReady")


@dataclass
class Container:
    """A container and how it fares."""

    template: Json
    process: Process | None = None
    restarts: int = 0
    exit_code: int | None = None
    is_ready: bool = False
    is_done: bool = False
    """Ended for good."""


def pod_status(
    inits: Sequence[Container], containers: Sequence[Container], address: str, waiting: str
) -> Json:
    """The Pod's status; `waiting` says for what."""
    is_ready = all(each.is_ready for each in containers)
    conditions = [{"type": "PodScheduled", "status": "True"}]
    conditions.append({"type": "Initialized", "status": str(all(each.is_done for each in inits))})
    conditions.extend({"type": kind, "status": str(is_ready)} for kind in READINESS)
    return {
        "phase": _phase(containers),
        "message": waiting or None,
        "conditions": conditions,
        "hostIP": address,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "initContainerStatuses": [_container_status(each) for each in inits],
        "containerStatuses": [_container_status(each) for each in containers],
    }


def _phase(containers: Sequence[Container]) -> str:
    if all(each.is_done for each in containers):
        return "Succeeded" if all(each.exit_code == 0 for each in containers) else "Failed"
    return "Running" if any(each.process for each in containers) else "Pending"


def _container_status(container: Container) -> Json:
    template, code = container.template, container.exit_code
    runs = container.process is not None and code is None
    state: Json = {"waiting": {"reason": "ContainerCreating"}}
    if runs:
        state = {"running": {}}
    elif code is not None:
        state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}}
    return {
        "name": template["name"],
        "image": full_name(template["image"]),
        "imageID": image_id(template["image"], {}),
        "ready": container.is_ready,
        "started": runs,
        "restartCount": container.restarts,
        "state": state,
    }
