"""Who may do what in NATS: the chart's own configuration on a real server, each permission both ways.

A refused publish is no error at the caller: the server says so on the connection. So each operation is sent as it is on
the wire, and what the server complained of is compared with what it should have. (What each service needs is
proved by every test with a road: it fails where any of its services was refused anything.)
"""

import pytest
from nats.aio.msg import Msg

from deploy.dev.nats import NatsServer
from deploy.dev.nats_access import USERS
from shared import subjects
from shared.subjects import Lane
from tests.support.nats_users import AUDIT_WRITER, GATEWAY, INTEGRATOR, OPERATOR, SCANNER, client_as
from tests.support.road import until

API = "$JS.API"
DOMAIN = "$JS.MOORGATE.API"
"""The same, from the account of the integrators."""
FENCE = "fence"
"""A subject that nobody may use: what the server complains of, it complains of in order."""

KEY = subjects.verdict_key("default", "b", "docker.io/library/nginx:1")

PUBLISH: dict[str, tuple[str, set[str]]] = {
    # What it is: the subject on the wire, and who may.
    "ask for a scan": (subjects.scan_subject(Lane.ADMISSION, "default", KEY), {GATEWAY, OPERATOR}),
    "ask for a re-scan": (
        subjects.scan_subject(Lane.RESCAN, "default", KEY),
        {SCANNER, AUDIT_WRITER, OPERATOR},
    ),
    "record a decision": (subjects.decision_subject("shop"), {GATEWAY, OPERATOR}),
    "tell a flip": (subjects.flip_subject("fail"), {AUDIT_WRITER}),
    "bury a scan": (subjects.dead_subject("scan"), {SCANNER}),
    "bury a decision": (subjects.dead_subject("decision"), {AUDIT_WRITER}),
    "bury a notification": (subjects.dead_subject("notification"), {AUDIT_WRITER}),
    "ask for a verdict": ("moorgate.v1.verdict.default", {INTEGRATOR, OPERATOR}),
    "ask for another tenant's verdict": ("moorgate.v1.verdict.other", {OPERATOR}),
    "write a verdict": (f"$KV.moorgate_verdicts.{KEY}", {SCANNER}),
    "write a scan state": (f"$KV.moorgate_scan_states.{KEY}", {SCANNER, OPERATOR}),
    "write a tenant": ("$KV.moorgate_tenants.default", {SCANNER}),
    "write what runs": ("$KV.moorgate_running.shop.sha256-0", {AUDIT_WRITER}),
    "read a verdict": (
        f"{API}.DIRECT.GET.KV_moorgate_verdicts.$KV.moorgate_verdicts.{KEY}",
        {SCANNER, OPERATOR},
    ),
    "mirror verdicts": (f"{API}.CONSUMER.CREATE.KV_moorgate_verdicts", {GATEWAY, AUDIT_WRITER, OPERATOR}),
    "mirror scan states": (
        f"{API}.CONSUMER.CREATE.KV_moorgate_scan_states",
        {GATEWAY, SCANNER, AUDIT_WRITER, OPERATOR},
    ),
    "mirror tenants": (f"{API}.CONSUMER.CREATE.KV_moorgate_tenants", {GATEWAY, AUDIT_WRITER, OPERATOR}),
    "mirror what runs": (f"{API}.CONSUMER.CREATE.KV_moorgate_running", {GATEWAY, OPERATOR}),
    "make a lane": (f"{API}.CONSUMER.DURABLE.CREATE.MOORGATE_SCANS.scan-admission-t", {SCANNER, OPERATOR}),
    "remove a lane": (f"{API}.CONSUMER.DELETE.MOORGATE_SCANS.scan-admission-t", {SCANNER, OPERATOR}),
    "pull scans": (f"{API}.CONSUMER.MSG.NEXT.MOORGATE_SCANS.scan-admission-t", {SCANNER, OPERATOR}),
    "acknowledge a scan": ("$JS.ACK.MOORGATE_SCANS.scan-admission-t.1.1.1.1.0", {SCANNER, OPERATOR}),
    "read a waiting scan": (f"{API}.STREAM.MSG.GET.MOORGATE_SCANS", {SCANNER, OPERATOR}),
    "pull scans by a consumer of one's own": (f"{API}.CONSUMER.CREATE.MOORGATE_SCANS", {OPERATOR}),
    "make a durable of events": (
        f"{API}.CONSUMER.DURABLE.CREATE.MOORGATE_EVENTS.notify-x",
        {AUDIT_WRITER, OPERATOR},
    ),
    "read all events by a consumer of one's own": (
        f"{API}.CONSUMER.CREATE.MOORGATE_EVENTS",
        {AUDIT_WRITER, OPERATOR},
    ),
    "remove a durable of events": (
        f"{API}.CONSUMER.DELETE.MOORGATE_EVENTS.audit-writer",
        {OPERATOR},
    ),
    "pull the audit-writers' events": (
        f"{API}.CONSUMER.MSG.NEXT.MOORGATE_EVENTS.audit-writer",
        {AUDIT_WRITER, OPERATOR},
    ),
    "acknowledge the audit-writers' events": (
        "$JS.ACK.MOORGATE_EVENTS.audit-writer.1.1.1.1.0",
        {AUDIT_WRITER, OPERATOR},
    ),
    "pull the integrator's events": (f"{DOMAIN}.CONSUMER.MSG.NEXT.MOORGATE_EVENTS.integrator", {INTEGRATOR}),
    "pull the audit-writers' events from outside": (
        f"{DOMAIN}.CONSUMER.MSG.NEXT.MOORGATE_EVENTS.audit-writer",
        set(),
    ),
    "look at the audit-writers' durable from outside": (
        f"{DOMAIN}.CONSUMER.INFO.MOORGATE_EVENTS.audit-writer",
        set(),
    ),
    "acknowledge the integrator's events": (
        "$JS.ACK.MOORGATE_EVENTS.integrator.1.1.1.1.0",
        {INTEGRATOR, AUDIT_WRITER, OPERATOR},
    ),
    "read an event": (f"{API}.STREAM.MSG.GET.MOORGATE_EVENTS", {OPERATOR}),
    "read a dead letter": (f"{API}.STREAM.MSG.GET.MOORGATE_DEAD", {OPERATOR}),
    "take a dead letter out": (f"{API}.STREAM.MSG.DELETE.MOORGATE_DEAD", {OPERATOR}),
    "take an event out": (f"{API}.STREAM.MSG.DELETE.MOORGATE_EVENTS", set()),
    "empty the scans": (f"{API}.STREAM.PURGE.MOORGATE_SCANS", {SCANNER, OPERATOR}),
    "empty the events": (f"{API}.STREAM.PURGE.MOORGATE_EVENTS", {OPERATOR}),
    "empty the verdicts": (f"{API}.STREAM.PURGE.KV_moorgate_verdicts", {OPERATOR}),
    "make a stream": (f"{API}.STREAM.CREATE.MINE", {OPERATOR}),
    "change a stream": (f"{API}.STREAM.UPDATE.MOORGATE_EVENTS", {OPERATOR}),
    "delete a stream": (f"{API}.STREAM.DELETE.MOORGATE_EVENTS", set()),
    "delete a bucket": (f"{API}.STREAM.DELETE.KV_moorgate_verdicts", set()),
    "restore a stream": (f"{API}.STREAM.RESTORE.MINE", set()),
    "answer in another's name": ("_INBOX_gateway.x.y", set()),
    "talk about anything else": ("moorgate.v2.anything", set()),
}

SUBSCRIBE: dict[str, tuple[str, set[str]]] = {
    "everything": (">", set()),
    "everybody's answers": ("_INBOX.>", set()),
    "events as they go": ("moorgate.v1.event.>", {OPERATOR}),
    "scans as they go": ("moorgate.v1.scan.>", set()),
    "verdicts as they are written": ("$KV.moorgate_verdicts.>", set()),
    "requests for verdicts": ("moorgate.v1.verdict.*", {GATEWAY}),
    "discovery": ("$SRV.PING", {GATEWAY}),
    "discovery of one service": ("$SRV.INFO.moorgate.id", {GATEWAY}),
    "the server's advisories": ("$JS.EVENT.ADVISORY.>", set()),
    **{f"{user}'s answers": (f"_INBOX_{user}.>", {user}) for user in USERS},
}


async def refused(complaints: list[str], kind: str) -> set[str]:
    """The subjects of the server's complaints, in lower case, once that about the `FENCE` has come."""

    async def have_come() -> bool:
        return any(FENCE in text for text in complaints)

    await until(have_come, "the last complaint")
    found = set()
    for text in complaints:
        lower = text.lower()
        if f"permissions violation for {kind}" in lower:
            found.add(lower.split(f'{kind} to "')[1].split('"')[0])
    return found


@pytest.mark.parametrize("user", USERS)
async def test_each_may_send_what_it_needs_and_nothing_else(locked: NatsServer, user: str) -> None:
    async with client_as(locked, user) as (client, complaints):
        for subject, _ in PUBLISH.values():
            await client.publish(subject, b"", reply=client.new_inbox())
        await client.publish(FENCE)
        no = await refused(complaints, "publish")
    sent = {name for name, (subject, _) in PUBLISH.items() if subject.lower() not in no}
    assert sent == {name for name, (_, users) in PUBLISH.items() if user in users}


@pytest.mark.parametrize("user", USERS)
async def test_each_may_hear_what_is_meant_for_it_and_nothing_else(locked: NatsServer, user: str) -> None:
    async def ignore(_: Msg) -> None:
        pass

    async with client_as(locked, user) as (client, complaints):
        for subject, _ in SUBSCRIBE.values():
            await client.subscribe(subject, cb=ignore)
        await client.subscribe(FENCE, cb=ignore)
        no = await refused(complaints, "subscription")
    heard = {name for name, (subject, _) in SUBSCRIBE.items() if subject.lower() not in no}
    assert heard == {name for name, (_, users) in SUBSCRIBE.items() if user in users}
