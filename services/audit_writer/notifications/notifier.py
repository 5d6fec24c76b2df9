"""A durable consumer for each target: takes flips, sends them, says to the stream how it went.

    taken (2xx)                       ack
    refused (4xx, but 408, 425, 429)  dead letter, with the target's name
    anything else                     tried again, ever later, until the flip is `giveUpAfter` old; then a dead letter

At least once, and once where nobody dies on the way: the id is the flip's at every try. All replicas
pull from the same durable. Targets share nothing, so one that is down delays no other. Alertmanager gets
flips in their order: a fail that arrives after its pass would fire for ever.
"""

import asyncio
import random
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import aiohttp

from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.notifications import alertmanager, sender, slack, webhook
from services.audit_writer.notifications.sender import Answer, Outcome
from services.audit_writer.notifications.targets import Kind, Target, TokenUnreadable, bearer_token
from shared import logs, streams, subjects
from shared.broker import Broker
from shared.consumer import Consumer, Delivery, Work
from shared.contracts import VERDICT_FLIPPED, VerdictFlipped
from shared.errors import Permanent, Retryable, Unavailable

WHAT = "notification"
"""The word for dead letters."""

FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0
"""Seconds between two tries: doubled each time, between these."""

LEAST_TRIES = 5
"""Tries a flip gets however old it is: it may have waited for an audit-writer, not for the target."""

DURABLE_RETRY = 5.0
"""Seconds between two attempts to make the durable: NATS may be away, or refuse."""

_MAX_STEPS = 20
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What a CloudEvents attribute may be in a header as it is; the rest is percent-encoded."""

_IN_ORDER = frozenset({Kind.ALERTMANAGER})
_CONCURRENCY = {Kind.WEBHOOK: 4, Kind.SLACK: 1, Kind.ALERTMANAGER: 1}
"""Calls at once by one replica; Slack takes one message a second."""


async def open_notifiers(
    stack: AsyncExitStack, targets: Iterable[Target], broker: Broker, metrics: AuditWriterMetrics
) -> list[Coroutine[Any, Any, None]]:
    """What has to run to notify the targets; sessions close with `stack`."""
    work = []
    for target in targets:
        session = await stack.enter_async_context(sender.open_session(target))
        work.append(_serve(Notifier(target, session, metrics), broker, metrics))
    return work


class Notifier:
    """Tells one target."""

    def __init__(self, target: Target, session: aiohttp.ClientSession, metrics: AuditWriterMetrics) -> None:
        self.target = target
        self._session = session
        self._metrics = metrics
        self._quiet_until = 0.0
        self._log = logs.logger("notifier").bind(target=target.name)
        for result in ("sent", "retried", "dropped"):
            metrics.notifications.labels(target.kind.value, result)

    async def notify(self, event: VerdictFlipped, delivery: Delivery) -> None:
        """Send the flip, where the target wants it; doing it again sends the same id.

        Raises `Retryable` to be called again, `Permanent` where the target will never take it.
        """
        if not self.target.wants(event):
            return
        with logs.bind(flip=event.id, namespace=event.namespace):
            await self._keep_quiet()
            self._settle(await self._send(event), event, delivery)

    async def _keep_quiet(self) -> None:
        """Leave the target alone for as long as it asked: calling on would cost the others' tries too."""
        loop = asyncio.get_running_loop()
        while (left := self._quiet_until - loop.time()) > 0:
            await asyncio.sleep(left)

    async def _send(self, event: VerdictFlipped) -> Answer:
        body, headers = _message(self.target, event)
        try:
            headers |= _credentials(self.target)
        except TokenUnreadable as error:
            return Answer(Outcome.RETRY, str(error))
        url = self.target.url.reveal()
        if self.target.kind is Kind.ALERTMANAGER:
            url = alertmanager.url(url)
        return await sender.post(self._session, url, body, headers)

    def _settle(self, answer: Answer, event: VerdictFlipped, delivery: Delivery) -> None:
        """Turn the answer into what the consumer understands."""
        if answer.retry_after:
            self._quiet_until = asyncio.get_running_loop().time() + answer.retry_after
        match answer.outcome:
            case Outcome.SENT:
                self._count("sent")
                self._metrics.notification_last_sent.labels(self.target.name).set_to_current_time()
                self._log.info("notified", result=event.result.value)
            case Outcome.REFUSED:
                self._drop(f"refused: {answer.why}")
            case Outcome.RETRY:
                if self._is_over(event, delivery):
                    self._drop(f"given up after {delivery.number} tries: {answer.why}")
                self._count("retried")
                delay = _delay(delivery.number, answer.retry_after)
                self._log.warning("notification_put_off", why=answer.why, delay=round(delay, 1))
                raise Retryable(f"target {self.target.name}: {answer.why}", delay=delay)

    def _is_over(self, event: VerdictFlipped, delivery: Delivery) -> bool:
        age = (datetime.now(UTC) - event.flipped_at).total_seconds()
        return delivery.number >= LEAST_TRIES and age >= self.target.give_up_after

    def _drop(self, why: str) -> None:
        self._count("dropped")
        raise Permanent(f"target {self.target.name}: {why}")

    def _count(self, result: str) -> None:
        self._metrics.notifications.labels(self.target.kind.value, result).inc()


async def _serve(notifier: Notifier, broker: Broker, metrics: AuditWriterMetrics) -> None:
    """Take the target's flips until cancelled; what NATS refuses here stops nothing else."""
    target = notifier.target
    make = partial(streams.make_notifier, broker, target.name, in_order=target.kind in _IN_ORDER)
    log = logs.logger("notifier").bind(target=target.name)
    while True:
        try:
            await make()
            break
        except Unavailable as error:
            log.warning("durable_not_made", error=str(error))
            await asyncio.sleep(DURABLE_RETRY)
    work = Work(
        what=WHAT,
        stream=subjects.EVENTS,
        durable=subjects.notifier_durable(target.name),
        decoder=VERDICT_FLIPPED,
        handle=notifier.notify,
        probe=_is_never_away,
        concurrency=_CONCURRENCY[target.kind],
        ack_wait=streams.NOTIFIER_ACK_WAIT,
        mend=make,
    )
    await Consumer(broker, metrics, work).run()


async def _is_never_away() -> bool:
    """A target that is down has its flips put off one by one; nothing is held until it answers."""
    return True


def _message(target: Target, event: VerdictFlipped) -> tuple[bytes, dict[str, str]]:
    """Body and headers in the target's form."""
    event_id = quote(event.id, safe=_PRINTABLE)
    headers = {"ce-id": event_id, "Idempotency-Key": event_id, "Content-Type": "application/json"}
    match target.kind:
        case Kind.SLACK:
            return slack.body(event, target.cluster), headers
        case Kind.ALERTMANAGER:
            return alertmanager.body(event, target), headers
        case Kind.WEBHOOK:
            body = webhook.body(event, target.cluster)
            headers["Content-Type"] = webhook.CONTENT_TYPE
            if target.secret:
                now = int(datetime.now(UTC).timestamp())
                headers[webhook.SIGNATURE] = webhook.signature(target.secret.reveal(), now, body)
            return body, headers


def _credentials(target: Target) -> dict[str, str]:
    """Headers of the operator's own. Raises `TokenUnreadable`."""
    headers = {name: value.reveal() for name, value in target.headers.items()}
    if target.bearer_token_file:
        headers["Authorization"] = f"Bearer {bearer_token(target.bearer_token_file)}"
    return headers


def _delay(tries: int, retry_after: float) -> float:
    """Seconds until the next try: 1, 2, 4 … 300, never sooner than the target asked for.

    Each is cut by up to half at random, so that flips and replicas spread.
    """
    delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(tries - 1, _MAX_STEPS))
    spread = random.uniform(0.5, 1.0)  # noqa: S311  keeps tries apart, no secret
    return max(delay * spread, retry_after * (2.0 - spread))
