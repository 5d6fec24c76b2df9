#!/usr/bin/env python3
"""Ask Moorgate about every image of manifests before they are merged. Needs `nats-py` and `pyyaml`.

    python gitops_gate.py [--tenant default] [--bundle ID] [--wait 300] FILE…

Exit code 0: all pass. 1: at least one fails. 2: at least one has no verdict (still being scanned when the wait ended,
not found, Moorgate or NATS away), or a manifest cannot be read. It asks for the tenant's active bundle; a policy of
the namespace (ImagePolicy) may say otherwise at the admission.
"""

import argparse
import asyncio
import json
import logging
import os
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import nats
import nats.errors
import yaml
from nats.aio.client import Client

ASK = 20.0
"""Seconds of one question; a slow scan is asked about again."""

CONNECT = 10.0
"""Seconds to reach NATS."""

BUSY = 5.0
"""Seconds before a gateway that has too many questions is asked again."""


def images_in(value: object) -> set[str]:
    """Every image of every Pod template, wherever it stands in the manifest."""
    if isinstance(value, list):
        return {image for each in value for image in images_in(each)}
    if not isinstance(value, dict):
        return set()
    found = {image for each in value.values() for image in images_in(each)}
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        found |= {each["image"] for each in dicts(value.get(kind)) if isinstance(each.get("image"), str)}
    for volume in dicts(value.get("volumes")):
        image = volume.get("image")
        if isinstance(image, dict) and isinstance(image.get("reference"), str):
            found.add(image["reference"])
    return found


def dicts(value: object) -> list[dict[str, Any]]:
    """Those of a list: a manifest may be anything."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


async def verdict(client: Client, subject: str, question: dict[str, Any], deadline: float) -> tuple[str, str]:
    """`pass`, `fail`, or why there is no verdict; and what to show for it."""
    while True:
        left = deadline - time.monotonic()
        asked = {**question, "timeoutSeconds": max(0.0, min(ASK, left))}
        reply = await client.request(subject, json.dumps(asked).encode(), timeout=ASK + 10)
        headers = reply.headers or {}
        code = headers.get("Nats-Service-Error-Code", "")
        if code:
            outcome, text, pause = "error", headers.get("Nats-Service-Error", code), BUSY
        else:
            answer = json.loads(reply.data)
            outcome, text = answer["outcome"], shown(answer)
            pause = 2.0
        may_change = outcome == "pending" or code in {"429", "503"}
        if not may_change or left <= pause:
            return outcome, text
        await asyncio.sleep(pause)


async def verdicts_of(
    client: Client,
    subject: str,
    questions: list[dict[str, Any]],
    deadline: float,
    refused: asyncio.Future[str],
) -> list[tuple[str, str]]:
    """All verdicts, in order; raises as soon as NATS refuses something."""
    asking = asyncio.gather(*(verdict(client, subject, question, deadline) for question in questions))
    either: tuple[asyncio.Future[Any], ...] = (asking, refused)
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if asking.done():
        return list(asking.result())
    asking.cancel()
    await asyncio.wait([asking])
    raise nats.errors.Error(refused.result())


def shown(answer: dict[str, Any]) -> str:
    """What is printed of one answer."""
    if answer["outcome"] == "error":
        return f"{answer['error']}: {answer.get('errorMessage', '')}"
    if answer["outcome"] == "pending":
        return "being scanned"
    reasons = [each for each in answer["verdict"].get("reasons", []) if each["action"] == "stop"]
    return "; ".join(f"{each['gate']}/{each['trigger']} {each['text']}" for each in reasons[:3])


async def main() -> int:
    """Ask, show, and give the exit code."""
    arguments = argparse.ArgumentParser(description="Ask Moorgate about the images of manifests.")
    arguments.add_argument("files", nargs="+", type=Path)
    arguments.add_argument("--tenant", default="default")
    arguments.add_argument("--bundle", default="", help="a policy bundle's id; without it the active one")
    arguments.add_argument("--wait", type=float, default=300, help="seconds for all scans (300)")
    given = arguments.parse_args()
    try:
        manifests = [list(yaml.safe_load_all(file.read_text(encoding="utf-8"))) for file in given.files]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        print(f"gitops-gate: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    images = sorted(images_in(manifests))
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # a refused connection is told of in one line, below
    user = os.environ.get("MOORGATE_NATS_USER", "integrator")
    ca_file = os.environ.get("MOORGATE_NATS_CA_FILE")
    deadline = time.monotonic() + given.wait
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def note(error: Exception) -> None:
        """What NATS refuses, such as a tenant that the user may not ask for, it says beside the question."""
        if not refused.done():
            refused.set_result(" ".join(str(error).split()))

    try:
        async with asyncio.timeout(CONNECT):
            client = await nats.connect(
                os.environ.get("MOORGATE_NATS_URL", "nats://127.0.0.1:4222"),
                user=user,
                password=os.environ.get("MOORGATE_NATS_PASSWORD", ""),
                tls=ssl.create_default_context(cafile=ca_file) if ca_file else None,
                inbox_prefix=f"_INBOX_{user}",
                allow_reconnect=False,
                error_cb=note,
            )
        subject = f"moorgate.v1.verdict.{given.tenant}"
        bundle = {"bundleId": given.bundle} if given.bundle else {}
        questions = [{"image": image, **bundle} for image in images]
        verdicts = await verdicts_of(client, subject, questions, deadline, refused)
        await client.close()
    except (nats.errors.Error, TimeoutError, OSError) as error:
        why = refused.result() if refused.done() else f"{type(error).__name__} {error}"
        print(f"gitops-gate: no answer from Moorgate: {why}", file=sys.stderr)
        return 2
    for image, (outcome, text) in zip(images, verdicts, strict=True):
        # Strangers' texts in a pipeline's log, where a line of its own could be a command.
        print(ascii(f"{outcome:8}{image}  {text}".rstrip())[1:-1])
    outcomes = {outcome for outcome, _ in verdicts}
    if "fail" in outcomes:
        return 1
    return 0 if outcomes <= {"pass"} else 2


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
