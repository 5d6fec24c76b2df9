"""`python -m deploy.dev.asyncapi`: writes docs/asyncapi.yaml and docs/schemas/ from the contracts.

Subjects come from shared/subjects.py, messages from shared/contracts, examples from the golden messages. Nothing
of it is kept by hand; a test fails where the files are not what this makes of the code.
Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from deploy.dev import message_schemas
from deploy.dev.message_schemas import MESSAGES, ROOT
from shared import subjects
from shared.contracts import (
    AdmissionDecided,
    DeadLetter,
    Message,
    RunningDigest,
    ScanError,
    ScanPending,
    ScanRequest,
    TenantRecord,
    Verdict,
    VerdictAnswer,
    VerdictFlipped,
    VerdictRequest,
)

DOCUMENT = ROOT / "docs" / "asyncapi.yaml"
GOLDEN = ROOT / "tests" / "contracts" / "golden"
BINDING_VERSION = "0.1.0"

PARAMETERS = {
    "lane": ("`admission` or `rescan`: neither delays the other.", ["admission", "rescan"]),
    "tenant": ("One Anchore account: `[a-z0-9-]{1,40}`.", None),
    "key": ("The verdict's key; in the subject of a scan its sha256 in hex.", None),
    "namespace": ("The Kubernetes namespace.", None),
    "result": ("What the verdict has become.", ["pass", "fail"]),
    "what": ("What could not be worked on.", ["scan", "decision", "notification"]),
}


class Channel(NamedTuple):
    """One subject and what is said there."""

    name: str
    pattern: str
    parameters: tuple[str, ...]
    """In the order of the pattern's wildcards."""
    messages: tuple[type[Message], ...]
    description: str

    @property
    def address(self) -> str:
        """The subject with a parameter for each wildcard."""
        names = iter(self.parameters)
        return re.sub(r"[*>]", lambda _: f"{{{next(names)}}}", self.pattern)


CHANNELS = (
    Channel(
        "decisions",
        subjects.DECISION_SUBJECTS,
        ("namespace",),
        (AdmissionDecided,),
        f"Every decision on a Pod, also a deferred one. Stream `{subjects.EVENTS}`, kept for 7 days.",
    ),
    Channel(
        "flips",
        subjects.FLIP_SUBJECTS,
        ("result",),
        (VerdictFlipped,),
        f"What runs fails now, or passes again. Stream `{subjects.EVENTS}`, kept for 7 days.",
    ),
    Channel(
        "questions",
        subjects.QUESTION_SUBJECTS,
        ("tenant",),
        (VerdictRequest, VerdictAnswer),
        f"Ask for a verdict: request and reply, the micro service `{subjects.QUESTION_SERVICE}` of the gateways. "
        "What cannot be answered is refused by the headers `Nats-Service-Error-Code` (400 bad question, 404 unknown "
        "tenant, 429 too many, 500 the gateway failed, 503 it is going away) and `Nats-Service-Error`.",
    ),
    Channel(
        "scans",
        subjects.SCAN_SUBJECTS,
        ("lane", "tenant", "key"),
        (ScanRequest,),
        f"A scan is wanted. Work queue `{subjects.SCANS}`, one message a subject: a second one is refused.",
    ),
    Channel(
        "deadLetters",
        subjects.DEAD_SUBJECTS,
        ("what",),
        (DeadLetter,),
        f"What no repetition helps. Stream `{subjects.DEAD}`.",
    ),
    Channel(
        "verdicts",
        f"$KV.{subjects.VERDICTS}.>",
        ("key",),
        (Verdict,),
        "Key-value bucket, mirrored by gateways.",
    ),
    Channel(
        "scanStates",
        f"$KV.{subjects.SCAN_STATES}.>",
        ("key",),
        (ScanPending, ScanError),
        "Key-value bucket: how scans without a verdict stand, by the same keys.",
    ),
    Channel(
        "tenants",
        f"$KV.{subjects.TENANTS}.>",
        ("tenant",),
        (TenantRecord,),
        "Key-value bucket: the bundles in force.",
    ),
    Channel(
        "running",
        f"$KV.{subjects.RUNNING}.>",
        ("key",),
        (RunningDigest,),
        "Key-value bucket: what runs, by `<namespace>.sha256-<hex>`.",
    ),
)


class Operation(NamedTuple):
    """Who says or hears something; `queue` is the NATS queue group, or the durable that shares the work."""

    name: str
    action: str
    channel: str
    summary: str
    queue: str = ""
    reply: bool = False


OPERATIONS = (
    Operation("gatewayTellsDecisions", "send", "decisions", "A gateway has answered an admission."),
    Operation(
        "auditWriterKeepsDecisions", "receive", "decisions", "Audits are made of them.", subjects.AUDIT_WRITER
    ),
    Operation("auditWriterTellsFlips", "send", "flips", "A verdict of what runs has turned."),
    Operation(
        "gatewayAnswersQuestions",
        "receive",
        "questions",
        "One of the gateways answers, within the time that the question gives it.",
        subjects.QUESTION_SERVICE,
        reply=True,
    ),
    Operation("gatewayWantsScans", "send", "scans", "An image is unknown, or its verdict is ageing."),
    Operation("auditWriterWantsScans", "send", "scans", "What runs is judged again."),
    Operation(
        "scannerTakesScans",
        "receive",
        "scans",
        "One durable a lane and tenant, shared by all scanners.",
        subjects.lane_durable(subjects.Lane.ADMISSION, "{tenant}"),
    ),
    Operation("scannerTellsVerdicts", "send", "verdicts", "Anchore has answered."),
    Operation("scannerTellsScanStates", "send", "scanStates", "It has not."),
    Operation("scannerTellsTenants", "send", "tenants", "Every 30 s."),
    Operation("auditWriterTellsWhatRuns", "send", "running", "With each inventory."),
    Operation("scannerBuriesScans", "send", "deadLetters", "With the reason and the message itself."),
    Operation("auditWriterBuriesMessages", "send", "deadLetters", "With the reason and the message itself."),
)

HEADERS: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0 in binary mode, and W3C Trace Context.",
    "properties": {
        "ce-specversion": {"const": "1.0"},
        "ce-id": {"type": "string", "minLength": 1, "description": "The same when a message is repeated."},
        "ce-type": {"type": "string", "description": "The `type` of the payload."},
        "ce-source": {"type": "string", "description": "`moorgate/<service>/<host>-<process>`."},
        "ce-time": {"type": "string", "format": "date-time"},
        "traceparent": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
        "Nats-Msg-Id": {"type": "string", "description": "In streams of events: `ce-id` again, stored once."},
    },
    "required": ["ce-specversion", "ce-id", "ce-type", "ce-source", "ce-time", "traceparent"],
}
HEADERLESS = (Verdict, ScanPending, ScanError, TenantRecord, RunningDigest)
"""Values of buckets: their key is who they are."""


def document() -> dict[str, Any]:
    """The AsyncAPI document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Moorgate",
            "version": version("moorgate"),
            "description": "What Moorgate's services and other tools say to one another over NATS. "
            "docs/integration.md tells how to use it. Made from the code by `make docs`.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "{host}:4222",
                "protocol": "nats",
                "description": "NATS 2.11 or later with JetStream.",
                "variables": {"host": {"description": "As in `MOORGATE_NATS_URL`.", "default": "localhost"}},
            }
        },
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": {operation.name: _operation(operation) for operation in OPERATIONS},
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in MESSAGES},
            "schemas": {"Headers": HEADERS, **message_schemas.components("#/components/schemas/{name}")},
        },
    }


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "address": channel.address,
        "description": channel.description,
        "parameters": {name: _parameter(*PARAMETERS[name]) for name in channel.parameters},
        "messages": {
            kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in channel.messages
        },
    }


def _parameter(description: str, values: list[str] | None) -> dict[str, Any]:
    return {"description": description, **({"enum": values} if values else {})}


def _operation(operation: Operation) -> dict[str, Any]:
    channel = next(each for each in CHANNELS if each.name == operation.channel)
    asked = channel.messages[:1] if operation.reply else channel.messages
    described: dict[str, Any] = {
        "action": operation.action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": operation.summary,
        "messages": [_message_of(channel, kind) for kind in asked],
    }
    if operation.queue:
        described["bindings"] = {"nats": {"queue": operation.queue, "bindingVersion": BINDING_VERSION}}
    if operation.reply:
        described["reply"] = {
            "channel": {"$ref": f"#/channels/{channel.name}"},
            "messages": [_message_of(channel, kind) for kind in channel.messages[1:]],
        }
    return described


def _message_of(channel: Channel, kind: type[Message]) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel.name}/messages/{kind.__name__}"}


def _message(kind: type[Message]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": kind.type_name(),
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").strip(),
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "examples": [{"name": "complete", "payload": newest_example(kind)}],
    }
    if kind not in HEADERLESS:
        described["headers"] = {"$ref": "#/components/schemas/Headers"}
    return described


def newest_example(kind: type[Message]) -> Any:
    """The golden message of the newest version: every field is set, so not every one fits the others."""
    numbered = {int(path.stem.rpartition("-")[2]): path for path in GOLDEN.glob(f"{kind.type_name()}-*.json")}
    return json.loads(numbered[max(numbered)].read_text(encoding="utf-8"))


def files() -> dict[Path, str]:
    """Every file that is made, with its content."""
    plain = msgspec.to_builtins(document())
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110)
    head = "# Made from the code by `make docs`; a test fails where it is not what the code says.\n"
    return {DOCUMENT: head + text, **message_schemas.files()}


def main() -> None:
    """Write them all."""
    made = files()
    message_schemas.SCHEMAS.mkdir(exist_ok=True)
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
