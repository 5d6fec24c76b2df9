"""What strangers send: an AdmissionReview by HTTP, values in the buckets, questions and events over NATS.

Each target takes bytes and promises one thing: an answer of the documented kind, never an exception, never an
answer that says more than one line or reaches into a subject, a header or a terminal. The gateway is a whole one,
in this process, without NATS; an event that it records goes on to the Audit and to whoever is told.
"""

import asyncio
import contextlib
import json
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from services.audit_writer import audit, limits
from services.audit_writer.audit import Standing
from services.audit_writer.notifications import alertmanager, slack
from services.audit_writer.notifications import webhook as notification
from services.audit_writer.notifications.targets import Kind
from services.cli import check_text
from services.gateway.outbox import Outgoing
from services.gateway.reply import Reply
from services.gateway.scan_rates import Rate
from services.gateway.verdict_answers import NoAnswer, VerdictAnswers
from services.gateway.webhook import MAX_BODY, Webhook
from services.scanner import notices
from services.scanner.notices import BadNotice
from shared import contracts, crds, images, subjects
from shared.buckets import Entry
from shared.contracts import Action, AdmissionDecided, Result
from shared.errors import BadImage, Permanent
from tests.audit_writer.notifications.flips import target
from tests.fuzz.checks import check_code, check_line, check_subject
from tests.gateway.test_webhook import Gateway
from tests.support.builders import BUNDLE, normal, pod, review

_STATUSES = {200, 400, 413}
_loops: list[asyncio.AbstractEventLoop] = []
_DECODERS: tuple[contracts.Decoder[Any], ...] = (
    contracts.SCAN_REQUEST,
    contracts.ADMISSION_DECIDED,
    contracts.VERDICT_FLIPPED,
    contracts.DEAD_LETTER,
    contracts.VERDICT,
    contracts.SCAN_STATE,
    contracts.TENANT_RECORD,
    contracts.VERDICT_REQUEST,
    contracts.VERDICT_ANSWER,
)


def close() -> None:
    """What runs the doors' coroutines."""
    while _loops:
        _loops.pop().close()


def _loop() -> asyncio.AbstractEventLoop:
    """One for all inputs."""
    if not _loops:
        _loops.append(asyncio.new_event_loop())
    return _loops[0]


class _Recorded:
    """An outbox that only remembers."""

    def __init__(self) -> None:
        self.events: list[AdmissionDecided] = []

    async def record(self, message: Outgoing, *_: object) -> bool:
        self.events.append(contracts.decode(message.payload, contracts.ADMISSION_DECIDED))
        return True


class Door:
    """A gateway that knows an image that passes and one that fails, and has the default tenant's record."""

    def __init__(self) -> None:
        self.gateway = Gateway()
        self.gateway.know("nginx:1")
        self.gateway.know("bad:1", Result.FAIL)
        self.outbox = _Recorded()
        self.gateway.gate._outbox = self.outbox  # type: ignore[assignment]  # only `record` is used
        self.webhook = Webhook(self.gateway.gate, self.gateway.metrics, max_wait=0.0, margin=0.0, secret=None)

    def post(self, body: bytes) -> Reply | web.Response:
        """The answer to this body."""
        protocol = _Protocol()
        payload = StreamReader(protocol, limit=2**16, loop=_loop())  # type: ignore[arg-type]
        payload.feed_data(body)
        payload.feed_eof()
        request = make_mocked_request(
            "POST",
            "/imagecheck?timeout=1s",
            CIMultiDict({"Content-Type": "application/json"}),
            payload=payload,
            client_max_size=MAX_BODY,
            loop=_loop(),
        )
        return _loop().run_until_complete(self.webhook.imagecheck(request, ""))


class _Protocol:
    """What a StreamReader asks of its connection: nothing."""

    _reading_paused = False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self, **_: object) -> None:
        pass


_door: list[Door] = []


def door() -> Door:
    """One for all inputs."""
    if not _door:
        _door.append(Door())
    return _door[0]


def admission(body: bytes) -> None:
    """POST /imagecheck: an answer that the API server takes, or one line that says why not."""
    its = door()
    its.outbox.events.clear()
    response = its.post(body)
    assert response.status in _STATUSES, response.status
    content = response.body
    assert isinstance(content, bytes)
    if response.status != 200:
        check_line(content.decode().removesuffix("\n"))
        return
    answer = json.loads(content)["response"]
    assert isinstance(answer["allowed"], bool)
    assert answer["uid"]
    check_line(answer.get("status", {}).get("message", ""), 1024)
    for text in [*answer.get("warnings", []), *answer.get("auditAnnotations", {}).values()]:
        check_line(text, 1024)
    for event in its.outbox.events:
        _follow(event)


def _follow(event: AdmissionDecided) -> None:
    """A recorded decision fits a message, has a subject of its own, and becomes an Audit."""
    check_subject(subjects.decision_subject(event.namespace), 5)
    again = contracts.decode(contracts.encode(event), contracts.ADMISSION_DECIDED)
    assert again == event
    decided(contracts.encode(event))


def decided(payload: bytes) -> None:
    """A decision as the audit-writer finds it in the stream: an Audit within its bounds, or no decision."""
    event = _decoded(payload, contracts.ADMISSION_DECIDED)
    if event is None or event.action is Action.DEFERRED:
        return
    name = crds.owner_audit_name(event.owner) if event.owner else crds.pod_audit_name(event.pod_name)
    assert len(name) <= 253
    made = audit.audit_of(event, Standing(name=name))
    assert limits.stored_size(made) <= 64 * 1024
    assert audit.merge(made, made) == made


def message(payload: bytes) -> None:
    """Any message: of one of the types, or `Permanent`, which is a dead letter; what is read can be sent again."""
    for decoder in _DECODERS:
        found = _decoded(payload, decoder)
        if found is not None:
            with contextlib.suppress(Permanent):  # larger than a message may be
                assert contracts.decode(contracts.encode(found), decoder) == found


def bucket(payload: bytes) -> None:
    """Values in the mirrored buckets, whoever wrote them: the admission is answered all the same."""
    its = door()
    mirror = its.gateway.mirror
    key = subjects.verdict_key("default", BUNDLE, normal("odd:1"))
    before = mirror.tenants._entries["default"]
    places = ((mirror.verdicts, key), (mirror.states, key), (mirror.tenants, "default"))
    try:
        for bucket_mirror, where in places:
            bucket_mirror._entries[where] = Entry(9, payload)
            admission(_ODD)
    finally:
        mirror.verdicts._entries.pop(key, None)
        mirror.states._entries.pop(key, None)
        mirror.tenants._entries["default"] = before


_ODD = json.dumps(review(pod("odd:1"))).encode()


def question(payload: bytes) -> None:
    """Another tool asks for a verdict: an answer in words, or a refusal with a code."""
    answers = VerdictAnswers(door().gateway.gate._judge._lookup, Rate(10**9, 1.0))
    tenant, _, rest = payload.partition(b"\0")
    try:
        answer = _loop().run_until_complete(answers.answer(tenant.decode(errors="replace"), rest, ""))
    except NoAnswer as refusal:
        check_code(refusal.code, {400, 404, 429, 503})
        return
    contracts.encode(answer)
    for line in check_text.report("x", answer, "").splitlines():
        assert line.isprintable(), line


def flip(payload: bytes) -> None:
    """A flip on its way to people: every form of notification can be made of it."""
    event = _decoded(payload, contracts.VERDICT_FLIPPED)
    if event is not None:
        slack.body(event, "c")
        notification.body(event, "c")
        alertmanager.body(event, target(Kind.ALERTMANAGER))


def notice(body: bytes) -> None:
    """What Anchore posts: tags and digests that are such, or one reason why it is no notification."""
    try:
        found = notices.decode(body)
    except BadNotice:
        return
    for reference in notices.references(found.tags, found.digests):
        with contextlib.suppress(BadImage):
            images.parse(str(reference))
        check_subject(subjects.scan_subject(subjects.Lane.RESCAN, "t", str(reference)), 6)


def _decoded(payload: bytes, decoder: "contracts.Decoder[Any]") -> Any:
    try:
        return contracts.decode(payload, decoder)
    except Permanent:
        return None
