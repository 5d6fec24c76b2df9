"""What happened to the recorded engine between two recorded requests.

The world changed (a tag was pushed again, a feed came, a service was ended), and some requests are not among the recordings
though later answers show that they were made. One that stands for such a record is left out when the record is there.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from deploy.dev.anchore.faults import Fault
from deploy.dev.anchore.simulator import Simulator
from tests.support.recordings import BAD, BUSYBOX, DEBIAN, SSHD, WEB, Recording, findings

SSHD_CHECK = "/v1/images/sha256:e54fd5bd4ce2c675018efa7fce5f10680e906505e2c3532c293c2cba643fe8d5/check"
BUSYBOX_IMAGE = "/v1/images/sha256:a5c5f7734c9cd76358977dda81471978cbab01334a82dbd83e0b0313bce910e1"

DOCKERFILE = "RlJPTSBzY3JhdGNoCkVYUE9TRSAyMgpVU0VSIHJvb3QK"
"""A Dockerfile that exposes port 22, base64: it shows in the last list of images."""

Change = Callable[[Simulator, list[Recording]], None]


class Interlude(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened before record `before`: a change, or else a request."""

    before: int
    change: Change | None = None
    stands_for: int | None = None
    user: str = "admin"
    method: str = "POST"
    path: str = ""
    query: dict[str, str] = msgspec.field(default_factory=dict)
    body: dict[str, Any] | None = None
    at: str | None = None
    """When, where later answers depend on it."""


def _push_web_again(simulator: Simulator, recordings: list[Recording]) -> None:
    later = next(recording for recording in recordings if recording.name == "images-by-fulltag-after-repush")
    digest = later.response["body"][0]["imageDigest"]
    image = simulator.image(f"{WEB.rpartition(':')[0]}@{digest}")
    simulator.push(WEB, image=image)


def _set_feed_source(*, is_up: bool) -> Change:
    def change(simulator: Simulator, _recordings: list[Recording]) -> None:
        simulator.engine.feeds.source_is_up = is_up

    return change


def _bring_second_feed(simulator: Simulator, recordings: list[Recording]) -> None:
    simulator.set_vulnerabilities(DEBIAN, findings(recordings, "vuln-all-debian-2"))


def _stop(*services: str) -> Change:
    return lambda simulator, _recordings: simulator.stop_services(*services)


def _lose_one_evaluation(simulator: Simulator, _recordings: list[Recording]) -> None:
    simulator.add_fault(Fault(operation="check", kind="no_evaluation"))


def _check(before: int, stands_for: int, policy: str | None = None) -> Interlude:
    query = {"tag": SSHD} | ({"policyId": policy} if policy else {})
    return Interlude(before=before, stands_for=stands_for, method="GET", path=SSHD_CHECK, query=query)


def _add(before: int, stands_for: int, tag: str, **more: Any) -> Interlude:
    return Interlude(before=before, stands_for=stands_for, path="/v1/images", body={"tag": tag}, **more)


def interludes(recordings: list[Recording]) -> list[Interlude]:
    """In order; those whose records are there are left out."""
    present = {recording.number for recording in recordings}
    return [item for item in _all(recordings) if item.stands_for not in present]


def _all(recordings: list[Recording]) -> list[Interlude]:
    return [
        _check(154, 152, "whitelisted-rule"),
        Interlude(before=208, change=_push_web_again),
        Interlude(before=209, change=_set_feed_source(is_up=False)),
        Interlude(before=210, change=_set_feed_source(is_up=True)),
        Interlude(before=221, change=_bring_second_feed),
        Interlude(before=224, change=lambda simulator, _: simulator.look_again(), at="2026-11-23T15:03:10Z"),
        _add(257, 256, BUSYBOX, user="alice", at="2026-11-23T15:04:40Z"),
        _add(286, 285, BAD, at="2026-11-23T15:05:12Z"),
        Interlude(
            before=349,
            stands_for=337,
            path="/v1/images",
            query={"force": "true"},
            body={"tag": BUSYBOX, "dockerfile": DOCKERFILE},
            at="2026-11-23T15:08:05Z",
        ),
        Interlude(
            before=349,
            stands_for=344,
            method="DELETE",
            path=BUSYBOX_IMAGE,
            query={"force": "true"},
            at="2026-11-23T15:08:26Z",
        ),
        _add(349, 348, BUSYBOX, at="2026-11-23T15:08:26Z"),
        *_bundles(recordings),
        Interlude(before=375, change=_stop("policy_engine")),
        Interlude(before=389, change=_stop("simplequeue")),
        Interlude(before=390, change=_stop("catalog")),
        Interlude(before=397, change=_stop()),
        Interlude(before=399, change=_lose_one_evaluation),
    ]


def _bundles(recordings: list[Recording]) -> list[Interlude]:
    """Bundles that only the history of checks shows, and the end of a changed one."""
    added = next((item for item in recordings if item.name == "policy-add-deny-port22"), None)
    bundle = json.loads(json.dumps(added.request["body"])) if added else {}
    selection = {"name": "x", "registry": "*", "repository": "*", "image": {"type": "tag", "value": "*"}}
    blocked = {**bundle, "id": "blocked-digest", "blacklisted_images": [selection]}
    both = {
        **bundle,
        "id": "both-lists",
        "blacklisted_images": [selection],
        "whitelisted_images": [selection],
    }
    restored = {"policyId": "deny-port22", "active": True, "policybundle": bundle}
    return [
        _check(364, 361),
        Interlude(before=364, method="PUT", path="/v1/policies/deny-port22", body=restored),
        _check(364, 363),
        _check(375, 368, "warn-only"),
        Interlude(before=375, stands_for=370, path="/v1/policies", body=blocked),
        _check(375, 371, "blocked-digest"),
        Interlude(before=375, stands_for=373, path="/v1/policies", body=both),
        _check(375, 374, "both-lists"),
    ]
