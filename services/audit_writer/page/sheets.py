"""Templates and static files: read once, from the package. Every text is escaped; a template cannot say otherwise.

Static files bear the hash of their content in their name, so that a browser may keep them for ever and never has a
stale one.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.audit_writer.page import guidance, views
from services.audit_writer.page.records import URGENCY
from services.audit_writer.page.trend import Course

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class StaticFile(msgspec.Struct, frozen=True):
    """One file as it is sent."""

    content: bytes
    content_type: str


class Sheets:
    """What the page is written on."""

    def __init__(self) -> None:
        self.files: dict[str, StaticFile] = {}
        """By the name in the URL."""
        self._urls: dict[str, str] = {}
        for path in sorted((_HERE / "static").iterdir()):
            content = path.read_bytes()
            name = f"{path.stem}.{hashlib.sha256(content).hexdigest()[:12]}{path.suffix}"
            self.files[name] = StaticFile(content, _TYPES[path.suffix])
            self._urls[path.name] = f"/static/{name}"
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {
            "static": self._urls,
            "STATES": URGENCY,
            "MEANINGS": guidance.MEANINGS,
            "COURSE": Course,
        }
        self._templates.filters |= {"ago": views.ago, "moment": moment, "number": number}

    def write(self, template: str, now: datetime, **shown: Any) -> str:
        """The HTML; `shown`: what the template names."""
        return self._templates.get_template(template).render(now=now, **shown)


def moment(at: datetime) -> str:
    """A time to the second, of UTC, as it may stand in an attribute and be read by people."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def number(value: int) -> str:
    """With its thousands apart."""
    return f"{value:,}"
