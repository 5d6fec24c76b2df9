#!/usr/bin/env python3
"""Print each release that runs an image which fails since a moment ago. Needs `nats-py` only.

    python degraded_releases.py [--count N]

NATS keeps the events for 7 days and remembers what this durable has acknowledged: after a pause the program
goes on where it stopped, and any number of its processes share the work. An event may come twice, with the same
`ce-id`: print, or do, twice what may be done twice.
"""

import argparse
import asyncio
import collections
import json
import os
import ssl
import sys
from typing import Any

import nats
import nats.errors

STREAM = "MOORGATE_EVENTS"

REMEMBERED = 10_000
"""Events, so that one that comes twice is printed once."""


async def main() -> int:
    """Print until there were so many, or for ever."""
    arguments = argparse.ArgumentParser(description="Print releases whose image fails now.")
    arguments.add_argument(
        "--count", type=int, default=0, help="end after so many; without it go on for ever"
    )
    count = arguments.parse_args().count
    user = os.environ.get("MOORGATE_NATS_USER", "integrator")
    ca_file = os.environ.get("MOORGATE_NATS_CA_FILE")
    client = await nats.connect(
        os.environ.get("MOORGATE_NATS_URL", "nats://127.0.0.1:4222"),
        user=user,
        password=os.environ["MOORGATE_NATS_PASSWORD"],
        tls=ssl.create_default_context(cafile=ca_file) if ca_file else None,
        inbox_prefix=f"_INBOX_{user}",  # answers come to inboxes of the user's own
    )
    # Other tools have an account of their own; JetStream is reached from there by its domain.
    events = await client.jetstream(domain="MOORGATE").pull_subscribe_bind(consumer=user, stream=STREAM)
    seen: collections.OrderedDict[str, None] = collections.OrderedDict()
    printed = 0
    while not count or printed < count:
        try:
            [message] = await events.fetch(1, timeout=30)
        except nats.errors.TimeoutError:
            continue  # nothing new for a while
        event_id = (message.headers or {})["ce-id"]
        if message.subject == "moorgate.v1.event.verdict.fail" and event_id not in seen:
            print(line(json.loads(message.data)), flush=True)
            printed += 1
            seen[event_id] = None
            if len(seen) > REMEMBERED:
                seen.popitem(last=False)
        await message.ack()
    await client.close()
    return 0


def line(event: dict[str, Any]) -> str:
    """What is printed of one event."""
    reasons = "; ".join(reason["text"] for reason in event.get("newReasons", []))
    return f"{event['namespace']}/{event['release']}: {event['image']} fails ({event['cause']}) {reasons}".rstrip()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
