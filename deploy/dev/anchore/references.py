"""Pull strings as Anchore reads them: `registry/repository:tag` and `registry/repository@digest`.

Anchore adds `docker.io/` and `:latest`, but never `library/`: `nginx` and `library/nginx` are two tags to it, though the
registry serves one image under both. The strict reading is for images to be added, the lenient one for the `tag` of a
check, which the real server doesn't verify.
"""

import re

import msgspec

DOCKER_HUB = "docker.io"

_REGISTRY = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Reference(msgspec.Struct, frozen=True):
    """One image name, either by tag or by digest."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def fulltag(self) -> str:
        """`registry/repository:tag`."""
        return f"{self.registry}/{self.repository}:{self.tag}"

    @property
    def name(self) -> str:
        """The reference written out in full."""
        return f"{self.registry}/{self.repository}@{self.digest}" if self.digest else self.fulltag

    @property
    def stored_as(self) -> str:
        """The repository under which the registry keeps it: Docker Hub's official images live below `library/`."""
        if self.registry == DOCKER_HUB and "/" not in self.repository:
            return f"{self.registry}/library/{self.repository}"
        return f"{self.registry}/{self.repository}"


def read(pullstring: str) -> Reference:
    """The strict reading; raises ValueError for what is no pull string."""
    reference = read_leniently(pullstring)
    well_formed = (
        _REGISTRY.fullmatch(reference.registry)
        and _REPOSITORY.fullmatch(reference.repository)
        and (reference.tag is None or _TAG.fullmatch(reference.tag))
        and (reference.digest is None or _DIGEST.fullmatch(reference.digest))
    )
    if not well_formed:
        raise ValueError(f"Error parsing pullstring {pullstring}")
    return reference


def read_leniently(pullstring: str) -> Reference:
    """Never fails: nonsense becomes a repository of docker.io."""
    rest, _, digest = pullstring.partition("@")
    first, slash, remainder = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, rest = first, remainder
    else:
        registry = DOCKER_HUB
    repository, _, tag = rest.partition(":")
    if registry == "index.docker.io":
        registry = DOCKER_HUB
    if digest:
        return Reference(registry, repository, None, digest)
    return Reference(registry, repository, tag or "latest", None)
