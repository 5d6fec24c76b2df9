"""A flip in each target's form: what the other side reads, and that no text breaks out of it."""

import hashlib
import hmac
import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from services.audit_writer.notifications import alertmanager, slack, webhook
from services.audit_writer.notifications.targets import Kind
from shared import contracts
from shared.contracts import Reason, Result, VerdictFlipped
from tests.audit_writer.notifications.flips import FLIPS, flip, target
from tests.support.builders import OTHER_DIGEST, START

ALERTS = target(Kind.ALERTMANAGER, labels={"team": "shop"}, cluster="prod-eu")
EVIL = "</b> <!channel> <@U1> @channel *x* `code` &amp;\n\u202eok"


def slack_message(event: VerdictFlipped) -> dict[str, Any]:
    message = json.loads(slack.body(event, "prod-eu"))
    assert isinstance(message, dict)
    return message


def alert(event: VerdictFlipped) -> dict[str, Any]:
    [found] = json.loads(alertmanager.body(event, ALERTS))
    assert isinstance(found, dict)
    return found


def test_slack_gets_text_and_the_same_in_blocks() -> None:
    message = slack_message(flip())
    blocks = [block["text"]["text"] for block in message["blocks"]]
    assert message["text"] == "\n".join(blocks)
    assert blocks[0].startswith(":rotating_light: `docker.io/library/nginx:1.27` fails its policy now")
    assert blocks[2] == "New findings:\n• `CVE-2026-0001`: `HIGH in libssl3 (fixed in 3.0.9)`"
    assert all(block["text"]["verbatim"] for block in message["blocks"])
    assert slack_message(flip(Result.PASS))["text"].startswith(":white_check_mark: ")


def test_slack_finds_no_markup_in_foreign_text() -> None:
    reason = Reason(gate=EVIL, trigger=EVIL, action="stop", text=EVIL)
    text = slack_message(flip(image=EVIL, release=EVIL, namespace=EVIL, new_reasons=(reason,)))["text"]
    assert "`&lt;/b&gt; &lt;!channel&gt; &lt;@U1&gt; @channel *x* 'code' &amp;amp; ok`" in text
    outside = re.sub(r"`[^`]*`", "", text)
    assert not set(outside) & set("<>&@*`")


def test_an_alert_fires_for_a_bounded_time() -> None:
    found = alert(flip())
    assert found["labels"] == {
        "alertname": "MoorgateImageFails",
        "severity": "warning",
        "team": "shop",
        "cluster": "prod-eu",
        "namespace": "shop",
        "release": "web",
        "image": "docker.io/library/nginx:1.27",
    }
    assert datetime.fromisoformat(found["startsAt"]) == START
    assert datetime.fromisoformat(found["endsAt"]) == START + timedelta(hours=1)
    assert found["annotations"]["summary"].startswith("docker.io/library/nginx:1.27 fails its policy now")
    assert "CVE-2026-0001" in found["annotations"]["description"]


def test_the_flip_back_resolves_the_same_alert_whatever_else_has_changed() -> None:
    later = START + timedelta(minutes=5)
    changed = {"digest": OTHER_DIGEST, "bundle_id": "other", "tenant": "team-a", "policy": "p", "id": "other"}
    back = alert(flip(Result.PASS, flipped_at=later, **changed))
    assert back["labels"] == alert(flip())["labels"]
    assert "startsAt" not in back
    assert datetime.fromisoformat(back["endsAt"]) == later


@pytest.mark.parametrize(
    "base",
    ["http://am:9093", "http://am:9093/", "http://am:9093/api/v2/alerts", "http://am:9093/api/v2/alerts/"],
)
def test_alertmanagers_address_may_be_written_either_way(base: str) -> None:
    assert alertmanager.url(base) == "http://am:9093/api/v2/alerts"
    assert alertmanager.url("http://x/am") == "http://x/am/api/v2/alerts"


def test_a_webhook_gets_a_cloud_event_with_the_event_as_it_is() -> None:
    envelope = json.loads(webhook.body(flip(), "prod-eu"))
    assert contracts.decode(json.dumps(envelope.pop("data")).encode(), contracts.VERDICT_FLIPPED) == flip()
    assert envelope.pop("summary").startswith("docker.io/library/nginx:1.27 fails its policy now")
    assert envelope == {
        "specversion": "1.0",
        "id": flip().id,
        "source": "moorgate/prod-eu",
        "type": "moorgate.v1.verdict-flipped",
        "subject": "shop/web",
        "time": "2026-11-23T12:00:00Z",
        "datacontenttype": "application/json",
    }


def test_the_signature_is_that_of_time_dot_body() -> None:
    expected = hmac.new(b"hunter2", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert webhook.signature("hunter2", 1700000000, b'{"a":1}') == f"t=1700000000,v1={expected}"


@given(FLIPS)
@settings(max_examples=150, deadline=None)
def test_no_text_breaks_a_form_or_its_limits(event: VerdictFlipped) -> None:
    message = slack_message(event)
    assert 0 < len(message["text"]) <= 4000
    assert 0 < len(message["blocks"]) <= 50
    for block in message["blocks"]:
        text = block["text"]["text"]
        assert 0 < len(text) <= 3000
        assert text.count("`") % 2 == 0
        assert not set(re.sub(r"`[^`]*`", "", text)) & set("<>&@`")
    found = alert(event)
    assert len(found["annotations"]["description"]) <= 4000
    assert len(found["annotations"]["summary"]) <= 600
    assert all(len(value) <= 1024 and value.isprintable() for value in found["labels"].values())
    envelope = json.loads(webhook.body(event, ""))
    assert envelope["id"] == event.id
    assert envelope["subject"].isprintable()
