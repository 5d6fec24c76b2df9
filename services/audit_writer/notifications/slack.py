"""A notice as an incoming webhook of Slack takes it, and of Mattermost, which reads `text` alone.

Foreign texts stand as inline code: neither looks for mentions, links or formatting in there. Slack's
three characters of markup (`&`, `<`, `>`) are escaped, and a grave accent would end the code.

Sources: https://docs.slack.dev/messaging/formatting-message-text (escaping),
https://docs.slack.dev/reference/block-kit/blocks/section-block (3000 characters a section).
"""

import msgspec

from services.audit_writer.notifications.text import fit, notice
from shared.contracts import Result, VerdictFlipped

MAX_SECTION = 3000
"""Characters of a section; one more and Slack refuses the message."""

MAX_TEXT = 3800
"""Characters of `text`: what old versions of Mattermost take in one post, and Slack recommends."""

_SIGN = {Result.FAIL: ":rotating_light:", Result.PASS: ":white_check_mark:"}
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "'"})


def body(event: VerdictFlipped, cluster: str) -> bytes:
    """The JSON to post."""
    said = notice(event, cluster, quote)
    headline = f"{_SIGN[event.result]} {said.headline}"
    parts = [(headline,), said.facts, said.findings, said.advice]
    message = {
        "text": fit((headline, *said.lines), MAX_TEXT),
        "blocks": [_section(text) for part in parts if (text := fit(part, MAX_SECTION))],
    }
    return msgspec.json.encode(message)


def quote(text: str) -> str:
    """`text` as inline code."""
    return f"`{text.translate(_ESCAPES)}`"


def _section(text: str) -> dict[str, object]:
    """`verbatim`: Slack is to look for no links, channels or people in it."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
