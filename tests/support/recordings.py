"""What a real Anchore Engine answered: reads the recordings, and makes the simulator's world the recorded one.

The recordings lie beside the repository, not in it. One engine answered them in the order of their numbers. What else happened
in its world meanwhile is in `interludes`.
"""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from deploy.dev.anchore.catalogue import CatalogueFile, Content, Entry, Vulnerability

FOLDER = Path(__file__).parents[2].parent / "shared" / "anchore" / "recordings"

REGISTRY = "127.0.0.1:5000"
WEB = f"{REGISTRY}/team/web:1.0"
BUSYBOX = f"{REGISTRY}/library/busybox:1.36"
SSHD = f"{REGISTRY}/team/sshd:1.0"
DEBIAN = f"{REGISTRY}/team/debian:12"
BAD = f"{REGISTRY}/team/bad:1"

PICKUP = 2.0
"""Seconds for which an image was seen as not_analyzed with an idle analyzer."""

FAILING = 3.0
"""Seconds that the failing analysis took."""

SLACK = 3.0
"""Seconds by which analyses end earlier here: a record's time is when its answer had come."""

PASSWORDS = {"admin": "foobar", "alice": "alicepass", "nobody": "nothing"}


class Recording(msgspec.Struct, frozen=True):
    """One request and what was answered."""

    name: str
    request: dict[str, Any]
    response: dict[str, Any]
    meta: dict[str, Any]
    number: int = 0

    @property
    def label(self) -> str:
        return f"{self.number:03}-{self.name}"

    @property
    def is_from_engine(self) -> bool:
        """Whether the engine was the caller: these run the other way."""
        return bool(self.request["path"].startswith("/hooks/"))

    @property
    def at(self) -> float:
        """When it was asked; 0 where that was not written down."""
        if "at" not in self.meta:
            return 0.0
        return datetime.strptime(self.meta["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()

    @property
    def user(self) -> str | None:
        given = self.request["headers"].get("authorization")
        return None if given is None else str(given).removeprefix("Basic <").removesuffix(">")


def load() -> list[Recording]:
    """In the order in which they were made; empty when they aren't there."""
    found = []
    for path in sorted(FOLDER.glob("[0-9][0-9][0-9]-*.json")):
        recording = msgspec.json.decode(path.read_bytes(), type=Recording)
        found.append(msgspec.structs.replace(recording, number=int(path.name[:3])))
    return found


def catalogue(recordings: list[Recording]) -> CatalogueFile:
    """The recorded images, with digests, contents and analysis times as they were answered."""
    records = [record for recording in recordings for record in _image_records(recording.response["body"])]
    finished = {
        record["imageDigest"]: record for record in records if record["analysis_status"] == "analyzed"
    }
    seconds = _analysis_seconds(list(finished.values()))
    entries = []
    for record in {record["imageDigest"]: record for record in records}.values():
        digest = record["imageDigest"]
        content = _content(finished.get(digest), _first_dockerfile(digest, records))
        content = msgspec.structs.replace(content, analysis_seconds=seconds.get(digest, FAILING))
        detail = record["image_detail"][0]
        if detail["fulltag"] == DEBIAN:
            content = msgspec.structs.replace(
                content, vulnerabilities=findings(recordings, "vuln-all-debian")
            )
        entry = Entry(
            references=(f"{REGISTRY}/{detail['repo']}:{detail['tag']}",),
            content=content,
            digest=digest,
            list_digest=record["parentDigest"],
            image_id=detail["imageId"],
        )
        entries.append(entry)
    first_seen = [entry for entry in entries if entry.references != (WEB,)]
    webs = sorted(
        (entry for entry in entries if entry.references == (WEB,)), key=lambda entry: entry.content.image_size
    )
    return CatalogueFile(
        images=(*first_seen, *reversed(webs)),
        unreachable=(f"{REGISTRY[:-4]}5997", f"{REGISTRY[:-4]}8999"),
        self_signed=(REGISTRY,),
        feeds={"debian:12": 3},
    )


def findings(recordings: list[Recording], name: str) -> tuple[Vulnerability, ...]:
    """The vulnerabilities that a recorded answer lists."""
    answer = next(recording for recording in recordings if recording.name == name)
    return tuple(
        Vulnerability(
            id=found["vuln"],
            package=found["package_name"],
            version=found["package_version"],
            severity=found["severity"],
            fix=found["fix"],
            type=found["package_type"],
        )
        for found in answer.response["body"]["vulnerabilities"]
    )


def _image_records(body: object) -> Iterator[dict[str, Any]]:
    if isinstance(body, dict):
        if "image_detail" in body:
            yield body
        for value in body.values():
            yield from _image_records(value)
    elif isinstance(body, list):
        for value in body:
            yield from _image_records(value)


def _first_dockerfile(digest: str, records: list[dict[str, Any]]) -> str | None:
    for record in records:
        encoded = record["image_detail"][0]["dockerfile"]
        if record["imageDigest"] == digest and encoded:
            return base64.b64decode(encoded).decode()
    return None


def _content(finished: dict[str, Any] | None, dockerfile: str | None) -> Content:
    if finished is None:
        return Content(analysis_fails=True)
    known = finished["image_content"]["metadata"]
    return Content(
        distro=known["distro"],
        distro_version=known["distro_version"],
        arch=known["arch"],
        image_size=known["image_size"],
        layer_count=known["layer_count"],
        dockerfile=dockerfile or "",
    )


def _analysis_seconds(finished: list[dict[str, Any]]) -> dict[str, float]:
    """With one analyzer each image began when the one before it had ended."""
    seconds, before = {}, 0.0
    for record in sorted(finished, key=lambda record: str(record["analyzed_at"])):
        ended = datetime.fromisoformat(record["analyzed_at"]).timestamp()
        began = max(datetime.fromisoformat(record["created_at"]).timestamp() + PICKUP, before)
        seconds[record["imageDigest"]] = max(ended - began - SLACK, 1.0)
        before = ended
    return seconds
