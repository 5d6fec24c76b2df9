"""Image references: parsed and normalised once, here, by the distribution grammar.

What a Pod names (`nginx`, `r.example:5000/a/b:1`, `…@sha256:…`) becomes an `ImageReference` with
registry, repository, tag and digest, as containerd resolves it: no registry means `docker.io`, one
name there means `library/…`, neither tag nor digest means `latest`. The rest of Moorgate never
takes a reference apart again.

Source: https://github.com/distribution/reference (grammar in reference.go, defaults in normalize.go).
"""

import functools
import re

import msgspec

from shared.errors import BadImage

MAX_REPOSITORY_LENGTH = 255
"""Characters of the repository, without its registry (distribution: RepositoryNameTotalLengthMax)."""

MAX_LENGTH = 1024
"""Characters of the whole text. The grammar bounds all parts but the registry, and no host's name is so long."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}(?::[0-9]+)?/)?(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*))"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_BARE_ID = re.compile(r"[a-f0-9]{64}", re.ASCII)


class ImageReference(msgspec.Struct, frozen=True, kw_only=True):
    """A reference with every default filled in; `str()` is the one normal form, used in keys."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Registry and repository: `docker.io/library/nginx`."""
        return f"{self.registry}/{self.repository}"

    @property
    def is_mutable(self) -> bool:
        """True where what the reference means can change: it has a tag and no digest."""
        return self.digest is None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


@functools.lru_cache(maxsize=16384)
def parse(text: str) -> ImageReference:
    """The reference that `text` names, normalised. Raises `BadImage` and nothing else."""
    if len(text) > MAX_LENGTH:
        raise BadImage(f"{_quoted(text)} is longer than {MAX_LENGTH} characters")
    if _BARE_ID.fullmatch(text):
        raise BadImage(f"{_quoted(text)} is a bare image id; name a repository, with a tag or digest")
    registry, remainder = _split_registry(text)
    found = _REFERENCE.fullmatch(f"{registry}/{remainder}")
    if found is None:
        raise BadImage(f"{_quoted(text)} is no image reference: {_why_not(text)}")
    if len(found["repository"]) > MAX_REPOSITORY_LENGTH:
        raise BadImage(f"{_quoted(text)}: a repository has at most {MAX_REPOSITORY_LENGTH} characters")
    digest = found["digest"]
    _check_digest(text, digest)
    tag = found["tag"] or (None if digest else "latest")
    # A registry such as `a_b.c` is no host's name to the grammar, which then reads it as part of the repository.
    repository = found["name"].removeprefix(f"{registry}/")
    return ImageReference(registry=registry, repository=repository, tag=tag, digest=digest)


def _split_registry(text: str) -> tuple[str, str]:
    """Registry and the rest; the first part is a registry only when it cannot be a repository's."""
    first, slash, rest = text.partition("/")
    is_registry = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    registry, remainder = (first, rest) if is_registry else ("docker.io", text)
    if registry == "index.docker.io":
        registry = "docker.io"
    if registry == "docker.io" and "/" not in remainder:
        remainder = f"library/{remainder}"
    return registry, remainder


def _check_digest(text: str, digest: str | None) -> None:
    if digest is None:
        return
    algorithm, _, hexadecimal = digest.partition(":")
    expected = _DIGEST_LENGTHS.get(algorithm)
    if expected is None:
        raise BadImage(f"{_quoted(text)}: digest algorithm {algorithm} is not known; use sha256")
    if len(hexadecimal) != expected or hexadecimal.lower() != hexadecimal:
        raise BadImage(f"{_quoted(text)}: a {algorithm} digest has {expected} lower-case hex digits")


def _why_not(text: str) -> str:
    if not text:
        return "it is empty"
    if any(character.isspace() or not character.isprintable() for character in text):
        return "it has blanks or unprintable characters"
    if "://" in text:
        return "leave the scheme out"
    if text.lower() != text and ":" not in text:
        return "a repository is in lower case"
    return "write [registry/]repository[:tag][@digest]"


def _quoted(text: str) -> str:
    """The text as one short printable line, whatever was in it."""
    shown = text if len(text) <= 100 else f"{text[:100]}…"  # noqa: PLR2004  keeps messages to one line
    return ascii(shown)
