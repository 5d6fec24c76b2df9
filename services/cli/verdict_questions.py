"""The gateways' micro service as the operator's commands ask it: `moorgate.v1.verdict.<tenant>` (docs/integration.md).

One question, one answer within the seconds given. What the service refuses, and what NATS does with a question that nobody
takes, becomes an error that says what to do.
"""

import nats.errors

from services.cli import frame
from shared import contracts, subjects
from shared.broker import Broker, new_trace
from shared.contracts import VerdictAnswer, VerdictRequest
from shared.errors import MoorgateError, Permanent, Refused, Retryable, Unavailable

MARGIN = 5.0
"""Seconds an answer may take longer than the question said."""

_BUSY, _GOING = 429, 503
_AGAIN = 1.0
"""Seconds before a gateway that was busy is asked again."""


async def ask(broker: Broker, tenant: str, image: str, bundle_id: str, seconds: float) -> VerdictAnswer:
    """What is known of the image within `seconds`.

    Raises `Retryable` where asking again helps, `Refused` where not, `Unavailable` where nobody answers.
    """
    request = VerdictRequest(image=image, bundle_id=bundle_id, timeout_seconds=seconds)
    headers = broker.headers(request.type_name(), new_trace()[3:35])
    del headers["Nats-Msg-Id"]  # a question is in no stream
    subject = subjects.question_subject(tenant)
    try:
        reply = await broker.client.request(
            subject, contracts.encode(request), timeout=seconds + MARGIN, headers=headers
        )
    except nats.errors.NoRespondersError as error:
        raise Unavailable("gateway", "none has joined NATS: is one running, and connected there?") from error
    except (nats.errors.Error, TimeoutError) as error:
        raise _silence(broker, subject) from error
    _check(reply.headers or {})
    try:
        return contracts.decode(reply.data, contracts.VERDICT_ANSWER)
    except Permanent as error:
        raise MoorgateError(f"the gateway's answer cannot be read by this version: {error}") from error


def _silence(broker: Broker, subject: str) -> MoorgateError:
    if refused := frame.refused_permission(broker, subject):
        return MoorgateError(f"this user of NATS may not ask on {subject}: {refused}; see docs/nats.md")
    return Unavailable("gateway", "no answer in time: its log says why")


def _check(headers: dict[str, str]) -> None:
    code = headers.get("Nats-Service-Error-Code")
    if code is None:
        return
    message = headers.get("Nats-Service-Error", "")
    if code in (str(_BUSY), str(_GOING)):
        raise Retryable(message, delay=_AGAIN)
    raise Refused(int(code) if code.isdecimal() else 0, message)
