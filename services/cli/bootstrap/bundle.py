"""A policy bundle as a value, in API v2's words; v1's spelling of it is in `formats`.

Two bundles are the same when their values are equal, whatever a server added (`active`, `last_updated`), left out or wrote
in another order: fields that are not here are ignored, and missing ids and names are filled in as `formats.read` does.
"""

from typing import Any, Literal

import msgspec


class Param(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a rule."""

    name: str
    value: str


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What fires, and what it leads to."""

    id: str = ""
    gate: str
    trigger: str
    action: Literal["STOP", "WARN", "GO"]
    params: tuple[Param, ...] = ()
    description: str | None = None
    recommendation: str | None = None


class RuleSet(msgspec.Struct, frozen=True, kw_only=True):
    """A policy, in v1's words."""

    id: str
    name: str = ""
    description: str | None = None
    artifact_type: str | None = None
    rules: tuple[Rule, ...] = ()


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A pardon of one match."""

    id: str = ""
    gate: str
    trigger_id: str
    expires_on: str | None = None
    description: str | None = None


class Allowlist(msgspec.Struct, frozen=True, kw_only=True):
    """A whitelist, in v1's words."""

    id: str
    name: str = ""
    description: str | None = None
    items: tuple[Item, ...] = ()


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """Which of a repository's images."""

    type: Literal["tag", "digest", "id"]
    value: str


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which images."""

    id: str = ""
    name: str = ""
    registry: str
    repository: str
    image: Image
    description: str | None = None


class Mapping(Selection, frozen=True, kw_only=True):
    """Which images are judged by what."""

    rule_set_ids: tuple[str, ...] = ()
    allowlist_ids: tuple[str, ...] = ()


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle; v2 calls it a policy."""

    id: str
    name: str = ""
    description: str | None = None
    rule_sets: tuple[RuleSet, ...]
    allowlists: tuple[Allowlist, ...] = ()
    mappings: tuple[Mapping, ...]
    allowlisted_images: tuple[Selection, ...] = ()
    denylisted_images: tuple[Selection, ...] = ()
    source_mappings: tuple[dict[str, Any], ...] | None = None

    @property
    def has_catch_all(self) -> bool:
        """Whether every image is judged: one that no mapping matches passes."""
        return any(
            (each.registry, each.repository, each.image) == ("*", "*", Image(type="tag", value="*"))
            for each in self.mappings
        )
