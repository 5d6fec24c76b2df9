"""The demo's chapters: what is typed, what must come of it, and what it shows.

Each chapter raises StoryError when something did not come out as told; nothing here knows of terminals.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Answer, Kubectl

POLL = 0.2
"""Seconds between two looks at something that kubectl cannot wait for."""

GOOD, BAD = "nginx:1.25", "registry.example/bad/shop:1.0"
SLOW = "registry.example/slow/report:1.0"
SLOW_SECONDS = 8
"""How long the simulator's analysis of the slow image takes here."""

WHITELIST_ITEM = """\
apiVersion: security.banzaicloud.com/v1alpha1
kind: WhiteListItem
metadata:
  name: legacy
spec:
  creator: team-payments
  reason: replaced next week, ticket PAY-318
  namespaces: [shop]
"""

LEGACY = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: legacy
spec:
  selector: {matchLabels: {app: legacy}}
  template:
    metadata:
      labels: {app: legacy, release: legacy}
    spec:
      containers: [{name: app, image: "registry.example/bad/shop:1.0"}]
"""


class StoryError(Exception):
    """A step did not come out as told."""


class Narrator(Protocol):
    """Whoever tells the story."""

    def chapter(self, title: str) -> None: ...  # noqa: D102
    def says(self, text: str) -> None: ...  # noqa: D102
    def command(self, line: str) -> None: ...  # noqa: D102
    def output(self, text: str) -> None: ...  # noqa: D102
    def manifest(self, text: str) -> None: ...  # noqa: D102
    def holds(self, claim: str) -> None: ...  # noqa: D102


class Stage(Protocol):
    """Where the story is told: a control plane under Moorgate's watch, and a simulator to tell what comes."""

    @property
    def plane(self) -> ControlPlane: ...  # noqa: D102
    async def tell_anchore(self, command: str, **body: object) -> Any: ...  # noqa: D102


class Shell:
    """kubectl, with the narrator looking on."""

    def __init__(self, kubectl: Kubectl, narrator: Narrator) -> None:
        self.kubectl = kubectl
        self.narrator = narrator

    async def type(self, *words: str, expect: int = 0, stdin: object = None) -> Answer:
        """Run and show a command; its exit code must be `expect`."""
        self.narrator.command("kubectl " + " ".join(words))
        answer = await self.kubectl.run(*words, stdin=stdin)
        self.narrator.output(answer.stdout + answer.stderr)
        if answer.code != expect:
            raise StoryError(f"kubectl {' '.join(words)} ended with {answer.code}, not {expect}")
        return answer

    async def apply(self, manifest: str) -> None:
        """Show and apply a manifest."""
        self.narrator.manifest(manifest)
        await self.kubectl.apply_text(manifest)

    async def until(self, claim: str, is_so: Callable[[], Awaitable[bool]], seconds: float) -> float:
        """Wait until something is so, and say it; gives the seconds it took."""
        started = time.monotonic()
        while not await is_so():
            if time.monotonic() - started > seconds:
                raise StoryError(f"not so after {seconds:g} s: {claim}")
            await asyncio.sleep(POLL)
        took = time.monotonic() - started
        self.narrator.holds(f"{claim} ({took:.1f} s)")
        return took

    async def are_running(self, selector: str, count: int) -> bool:
        """Whether so many Pods are Running."""
        pods = await self.kubectl.get("pods", "-l", selector)
        return bool(sum(pod["status"].get("phase") == "Running" for pod in pods) == count)

    async def audits(self) -> dict[str, Any]:
        """The namespace's Audits by name."""
        return {item["metadata"]["name"]: item for item in await self.kubectl.get("audits")}


async def tell(stage: Stage, narrator: Narrator) -> None:
    """All chapters, in order."""
    await stage.tell_anchore("analysis", reference=SLOW, seconds=SLOW_SECONDS)
    shell = Shell(Kubectl(stage.plane, "shop", "developer"), narrator)
    await shell.kubectl.as_user("admin").ok("create", "namespace", "shop")
    await good(shell)
    await bad(shell)
    await slow(shell)
    await whitelisted(shell)
    await audited(shell)
    await collected(shell)


async def good(shell: Shell) -> None:
    """An image that passes."""
    shell.narrator.chapter("A Deployment whose image passes")
    await shell.type("create", "deployment", "web", f"--image={GOOD}", "--replicas=2")
    await shell.until("Its two Pods are running", lambda: shell.are_running("app=web", 2), 30)


async def bad(shell: Shell) -> None:
    """An image that fails."""
    shell.narrator.chapter("A Deployment whose image fails")
    await shell.type("create", "deployment", "shop", f"--image={BAD}")
    message = ""

    async def is_refused() -> bool:
        nonlocal message
        events = await shell.kubectl.get("events", "--field-selector=reason=FailedCreate")
        texts = [event["message"] for event in events if "fails policy bundle" in event["message"]]
        message = texts[-1] if texts else ""
        return bool(texts)

    await shell.until("Its ReplicaSet is told why no Pod comes", is_refused, 30)
    shell.narrator.output(message)
    shell.narrator.says("Now that the verdict is known, the Deployment itself is warned about, at once:")
    answer = await shell.type("create", "deployment", "shop2", f"--image={BAD}")
    if "would be refused" not in answer.stderr:
        raise StoryError("the second Deployment was not warned about")
    answer = await shell.type("run", "shop", f"--image={BAD}", expect=1)
    for part in (BAD, "vulnerabilities/package", "policy bundle"):
        if part not in answer.stderr:
            raise StoryError(f"the message does not name {part}")
    shell.narrator.holds("A person is told image, gate, finding and bundle")


async def slow(shell: Shell) -> None:
    """The first sight of an image under a long analysis."""
    shell.narrator.chapter("The first sight of a slow image")
    shell.narrator.says(
        f"Anchore takes {SLOW_SECONDS} s to analyse it. kubectl is told to come back, and waits by itself:"
    )
    started = time.monotonic()
    waiting = asyncio.create_task(shell.type("run", "report", f"--image={SLOW}"))
    await shell.type("create", "deployment", "cache", f"--image={GOOD}")
    took = await shell.until(
        "Meanwhile a Deployment of a known image is not held up",
        lambda: shell.are_running("app=cache", 1),
        5,
    )
    if waiting.done():
        raise StoryError(f"the slow image was admitted before its analysis could end ({took:.1f} s)")
    await waiting
    shell.narrator.holds(
        f"The slow one was admitted after {time.monotonic() - started:.0f} s, without anybody doing anything"
    )


async def whitelisted(shell: Shell) -> None:
    """A release that is let through."""
    shell.narrator.chapter("A release that is let through, on the record")
    admin = Shell(shell.kubectl.as_user("admin"), shell.narrator)
    await admin.apply(WHITELIST_ITEM)
    await shell.apply(LEGACY)
    await shell.until(
        "The failing image runs, because its release is whitelisted",
        lambda: shell.are_running("app=legacy", 1),
        30,
    )


async def audited(shell: Shell) -> None:
    """What is on record."""
    shell.narrator.chapter("What is on record")
    admin = Shell(shell.kubectl.as_user("admin"), shell.narrator)
    expected = {
        "web": ("allowed", "Image passed policy check"),
        "shop": ("reject", "Image failed policy check"),
        "legacy": ("allowed", "Whitelisted release"),
    }

    async def are_there() -> bool:
        audits = await admin.audits()
        return all(
            any(
                name.startswith(f"replicaset-{prefix}-")
                and audit["spec"]["action"] == action
                and result in audit["spec"]["result"][0]
                and audit["metadata"].get("ownerReferences")
                for name, audit in audits.items()
            )
            for prefix, (action, result) in expected.items()
        ) and {"pod-report", "pod-shop"} <= set(audits)

    await admin.until("Every workload has its Audit, owned by its controller", are_there, 30)
    await admin.type("get", "audits", "-A")


async def collected(shell: Shell) -> None:
    """The record goes with its workload."""
    shell.narrator.chapter("The record goes with its workload")
    await shell.type("delete", "deployment", "web")
    admin = Shell(shell.kubectl.as_user("admin"), shell.narrator)

    async def is_gone() -> bool:
        return not any(name.startswith("replicaset-web-") for name in await admin.audits())

    await admin.until("Kubernetes' garbage collector removed its Audit", is_gone, 30)
