"""The registry behind the simulator: which tag names which image, and what is in it.

The images stand in a data file. Patterns there make any number of images up, each with a digest derived from its name, so
that a load test can invent names. Tags can be moved to another image while the simulator runs; digests never change.
"""

import fnmatch
import hashlib
from pathlib import Path

import msgspec

from deploy.dev.anchore import references
from deploy.dev.anchore.references import Reference


class Vulnerability(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One finding in one package."""

    id: str
    package: str
    version: str
    severity: str
    """Critical, High, Medium, Low, Negligible or Unknown."""
    fix: str = "None"
    """The version that mends it, or the word None, as Anchore writes it."""
    type: str = "dpkg"
    """dpkg, rpm and apk are `os` packages, all else is `non-os`."""
    path: str = "pkgdb"

    @property
    def url(self) -> str:
        """Made up."""
        return f"https://example.invalid/{self.id}"

    @property
    def kind(self) -> str:
        """`os` or `non-os`."""
        return "os" if self.type in {"dpkg", "rpm", "apk"} else "non-os"


class Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an analysis of one image finds."""

    distro: str = "debian"
    distro_version: str = "12"
    arch: str = "amd64"
    image_size: int = 78_039_040
    layer_count: int = 1
    dockerfile: str = 'FROM scratch\nADD dir:rootfs in / \nUSER 1000\nCMD ["/app"]\n'
    """The Dockerfile that Anchore guesses from the image's history."""
    vulnerabilities: tuple[Vulnerability, ...] = ()
    analysis_seconds: float | None = None
    """How long its analysis takes; None: as the settings say."""
    analysis_fails: bool = False


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One image in the registry, with the digests that name it."""

    digest: str
    list_digest: str
    """The manifest list's digest; the same as `digest` for an image of one platform."""
    image_id: str
    content: Content


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One image of the data file; digests that are not given are derived from its first reference."""

    references: tuple[str, ...]
    content: Content = Content()
    digest: str | None = None
    list_digest: str | None = None
    multi_arch: bool = False
    image_id: str | None = None


class Pattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every name that matches `glob` is an image with this content."""

    glob: str
    content: Content
    multi_arch: bool = False


class CatalogueFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of catalogue.json."""

    images: tuple[Entry, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    unreachable: tuple[str, ...] = ()
    """Registries that don't answer."""
    self_signed: tuple[str, ...] = ()
    """Registries whose certificate nobody can verify; images can be pulled from them all the same."""
    unauthorized: tuple[str, ...] = ()
    """Registries that want credentials; an account may have them (POST /registries)."""
    feeds: dict[str, int] = msgspec.field(default_factory=dict)
    """Vulnerability feed groups that a feed sync brings, with their number of records."""


class RegistryError(Exception):
    """The registry could not say what a reference names."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(code)
        self.code = code
        self.said = said


def load(path: Path) -> CatalogueFile:
    """Raises msgspec.ValidationError, which names the field at fault."""
    return msgspec.json.decode(path.read_bytes(), type=CatalogueFile)


def derived(name: str, part: str) -> str:
    """A digest's 64 hex digits, the same for the same name at every start."""
    return hashlib.sha256(f"{part} of {name}".encode()).hexdigest()


def make_image(name: str, content: Content, *, multi_arch: bool = False) -> Image:
    """An image whose digests follow from its name."""
    digest = f"sha256:{derived(name, 'manifest')}"
    list_digest = f"sha256:{derived(name, 'manifest list')}" if multi_arch else digest
    return Image(digest=digest, list_digest=list_digest, image_id=derived(name, "config"), content=content)


class Registry:
    """Answers what a reference names now."""

    def __init__(self, file: CatalogueFile) -> None:
        self.unreachable = set(file.unreachable)
        self.unauthorized = set(file.unauthorized)
        self.self_signed = set(file.self_signed)
        self._patterns = list(file.patterns)
        self._tags: dict[str, Image] = {}
        self._digests: dict[tuple[str, str], Image] = {}
        for entry in file.images:
            self.add(entry)

    def add(self, entry: Entry) -> Image:
        """Make an image known under all its references."""
        image = _image_of(entry)
        for pullstring in entry.references:
            self.point(references.read(pullstring), image)
        return image

    def point(self, reference: Reference, image: Image) -> None:
        """Let the reference name this image from now on; the old one stays there by its digest."""
        if reference.tag is not None:
            self._tags[f"{reference.stored_as}:{reference.tag}"] = image
        for digest in (image.digest, image.list_digest):
            self._digests[reference.stored_as, digest] = image

    def resolve(self, reference: Reference, credentials: set[str]) -> Image:
        """The image; raises RegistryError as the registry would. `credentials`: the registries the account can log in to."""
        if reference.registry in self.unreachable:
            raise RegistryError("REGISTRY_NOT_ACCESSIBLE", _unreachable(reference))
        if reference.registry in self.unauthorized - credentials:
            raise RegistryError("REGISTRY_PERMISSION_DENIED", _permission_denied(reference))
        image = self._find(reference) or self._make_up(reference)
        if image is None:
            raise RegistryError("REGISTRY_IMAGE_NOT_FOUND", _not_found(reference))
        return image

    def _find(self, reference: Reference) -> Image | None:
        if reference.digest is not None:
            return self._digests.get((reference.stored_as, reference.digest))
        return self._tags.get(f"{reference.stored_as}:{reference.tag}")

    def _make_up(self, reference: Reference) -> Image | None:
        for pattern in self._patterns:
            if not fnmatch.fnmatchcase(reference.name, pattern.glob):
                continue
            image = make_image(reference.name, pattern.content, multi_arch=pattern.multi_arch)
            if reference.digest is not None:
                image = msgspec.structs.replace(image, digest=reference.digest, list_digest=reference.digest)
            self.point(reference, image)
            return image
        return None


def _image_of(entry: Entry) -> Image:
    name = entry.references[0]
    image = make_image(name, entry.content, multi_arch=entry.multi_arch)
    digest = entry.digest or references.read(name).digest or image.digest
    list_digest = entry.list_digest or (image.list_digest if entry.multi_arch else digest)
    image_id = entry.image_id or image.image_id
    return msgspec.structs.replace(image, digest=digest, list_digest=list_digest, image_id=image_id)


def _not_found(reference: Reference) -> str:
    wanted = reference.digest or reference.tag
    where = f"{reference.registry}/{reference.repository}"
    return f"reading manifest {wanted} in {where}: manifest unknown: manifest unknown"


def _unreachable(reference: Reference) -> str:
    address = reference.registry
    return f'pinging container registry {address}: Get \\\\"http://{address}/v2/\\\\": dial tcp {address}: connect: connection refused'


def _permission_denied(reference: Reference) -> str:
    wanted = reference.digest or reference.tag
    where = f"{reference.registry}/{reference.repository}"
    return f"reading manifest {wanted} in {where}: unauthorized: authentication required"
