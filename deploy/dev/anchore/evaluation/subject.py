"""What a gate looks at: one analysed image, the feeds that were there, and the present."""

import re

import msgspec

from deploy.dev.anchore.catalogue import Content, Vulnerability


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One image under evaluation."""

    image_id: str
    digest: str
    fulltag: str
    """The tag it is judged under, which need not be one of its own: the real server doesn't check."""
    content: Content
    dockerfile: str
    dockerfile_is_actual: bool
    vulnerabilities: tuple[Vulnerability, ...]
    """Those that the feeds let be seen."""
    feed_synced_at: float | None
    """When the feed of its distribution was last synced; None: there is none."""
    now: float

    @property
    def distro(self) -> str:
        """The name of the feed group that it needs."""
        return f"{self.content.distro}:{self.content.distro_version}"


class Match(msgspec.Struct, frozen=True):
    """One firing of a trigger."""

    trigger_id: str
    message: str


def dockerfile_lines(dockerfile: str) -> dict[str, list[str]]:
    """The instructions by their name, continuation lines joined, comments left out."""
    lines: dict[str, list[str]] = {}
    joined = re.sub(r"\\[ \t]*\n", "", dockerfile)
    for raw in joined.splitlines():
        line = raw.strip()
        if line and not line.startswith("#"):
            lines.setdefault(line.split(None, 1)[0].upper(), []).append(line)
    return lines
