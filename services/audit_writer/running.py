"""What runs, as the last inventory found it: the words between the inventory and those who go by it.

One entry a workload, not a Pod: a Deployment of a thousand Pods is one line. Re-scans, flips and the completion of
Audits read the newest snapshot; each inventory replaces it whole.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from shared.contracts import ContainerKind, OwnerClaim, Utc
from shared.crds import pod_audit_name


class RunningImage(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a workload's Pods."""

    container: str
    container_kind: ContainerKind
    image: str
    """As written in the Pod."""
    reference: str
    """Normalised; empty where `image` is no reference."""
    digests: frozenset[str] = frozenset()
    """What kubelets report to run under it, of all Pods of the workload; usually one."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """All running Pods of one controller, or one Pod without."""

    namespace: str
    audit: str
    """Name of its Audit."""
    owner: OwnerClaim
    """The Pods' controller as they state it; of a Pod without one the Pod itself."""
    pod: str = ""
    """Name of one of its Pods."""
    release: str
    """As it is recorded."""
    release_matched: str
    """What whitelist items are matched against: of a fake release a Pod's name."""
    fake_release: bool
    pods: int
    since: Utc | None = None
    """Creation of its oldest Pod."""
    images: tuple[RunningImage, ...]
    """Distinct ones, init and ephemeral containers too."""

    @property
    def stands_alone(self) -> bool:
        """It is one Pod without a controller, which owns its own Audit."""
        owner = self.owner
        return (owner.api_version, owner.kind) == ("v1", "Pod") and self.audit == pod_audit_name(owner.name)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One inventory."""

    taken_at: datetime
    """When it was begun."""
    workloads: Mapping[tuple[str, str], Workload]
    """By namespace and name of the Audit."""
    namespaces: Mapping[str, Mapping[str, str]]
    """The labels of every namespace in which something runs: policies select by them."""


class Running:
    """The newest snapshot of the process that leads; None before its first inventory."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self._on_change: list[Callable[[], None]] = []

    def on_change(self, call: Callable[[], None]) -> None:
        """Call `call` after each inventory."""
        self._on_change.append(call)

    def replace(self, snapshot: Snapshot | None) -> None:
        """This is what runs now; None: this process leads no more."""
        self.snapshot = snapshot
        for call in self._on_change:
            call()
