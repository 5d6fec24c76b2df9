"""Which Helm release a Pod says it belongs to: gateways match and record by it, the inventory lists by it.

A release name is what the Pod says; it proves nothing. A Pod that names none has a fake release, its own name.
The pure part: no I/O.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from shared.contracts import OwnerClaim

DEFAULT_LABELS = "release,app.kubernetes.io/instance"
"""Default of `MOORGATE_RELEASE_LABELS`: Helm 2's label, then the recommended one."""


class Release(msgspec.Struct, frozen=True):
    """The Helm release a workload says it belongs to."""

    name: str
    """What items are matched against."""
    is_fake: bool
    """It names none: the workload's own name stands in."""
    recorded: str
    """What the Audit says: a Pod's name changes every time, its controller's does not."""


class Released(Protocol):
    """What may belong to a release."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def labels(self) -> Mapping[str, str]: ...  # noqa: D102

    @property
    def owner(self) -> OwnerClaim | None: ...  # noqa: D102


def release_of(workload: Released, labels: tuple[str, ...]) -> Release:
    """The first of `labels` that the workload has; else a fake release, its own name."""
    for label in labels:
        if name := workload.labels.get(label):
            return Release(name=name, is_fake=False, recorded=name)
    owner = workload.owner
    return Release(name=workload.name, is_fake=True, recorded=owner.name if owner else workload.name)
