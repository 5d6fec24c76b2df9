"""Which images a Pod's spec names, and who controls it: read alike at an admission and by the inventory.

Looked at are containers, init and ephemeral containers and image volumes. Owner references are read as
what they are: the user's text. The pure part: no I/O.
"""

from collections.abc import Iterable

import msgspec

from shared.contracts import ContainerKind, OwnerClaim


class PodImage(msgspec.Struct, frozen=True):
    """One image of a Pod or Pod template, as written."""

    container: str
    kind: ContainerKind
    image: str


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class Container(_Wire, frozen=True, kw_only=True):
    """A container of any kind."""

    name: str = ""
    image: str = ""


class ImageVolume(_Wire, frozen=True, kw_only=True):
    """An image or artifact mounted as files."""

    reference: str = ""


class Volume(_Wire, frozen=True, kw_only=True):
    """Only whether it is an image."""

    name: str = ""
    image: ImageVolume | None = None


class PodSpec(_Wire, frozen=True, kw_only=True):
    """Where images stand."""

    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    ephemeral_containers: list[Container] | None = None
    volumes: list[Volume] | None = None


class PodOwner(_Wire, frozen=True, kw_only=True):
    """An owner reference as the object states it."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


def controller(references: Iterable[PodOwner] | None) -> OwnerClaim | None:
    """The one reference with `controller: true`."""
    for reference in references or ():
        if reference.controller:
            return OwnerClaim(
                api_version=reference.api_version, kind=reference.kind, name=reference.name, uid=reference.uid
            )
    return None


def pod_images(spec: PodSpec) -> list[PodImage]:
    """Every image of the spec, containers in the order in which they start."""
    groups = (
        (ContainerKind.INIT, spec.init_containers),
        (ContainerKind.CONTAINER, spec.containers),
        (ContainerKind.EPHEMERAL, spec.ephemeral_containers),
    )
    found = [
        PodImage(container.name, kind, container.image)
        for kind, containers in groups
        for container in containers or ()
    ]
    found += [
        PodImage(volume.name, ContainerKind.VOLUME, volume.image.reference)
        for volume in spec.volumes or ()
        if volume.image and volume.image.reference
    ]
    return found
