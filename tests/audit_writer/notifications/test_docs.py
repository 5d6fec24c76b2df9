"""What docs/notifications.md tells operators and receivers to do works as written."""

import re
import time
from pathlib import Path
from typing import Any

from services.audit_writer.notifications import notify_file, webhook
from services.audit_writer.notifications.targets import Kind

PAGE = (Path(__file__).parents[3] / "docs" / "notifications.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_the_example_is_a_file_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "slack-url").write_text("https://hooks.example/services/T/B/x\n")
    (tmp_path / "siem-key").write_text("s3cret\n")
    (tmp_path / "notify.yaml").write_text(block("yaml"))
    targets = notify_file.load(tmp_path / "notify.yaml")
    assert [target.kind for target in targets] == [Kind.SLACK, Kind.WEBHOOK, Kind.ALERTMANAGER]
    assert {target.cluster for target in targets} == {"prod-eu"}


def test_every_key_is_explained() -> None:
    entries = (notify_file._Slack, notify_file._Webhook, notify_file._Alertmanager)
    keys = {key for entry in entries for key in entry.__struct_encode_fields__}
    assert not {key for key in keys if f"`{key}`" not in PAGE and f"{key}: " not in block("yaml")}


def test_a_receiver_can_check_the_signature() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    is_genuine, now, body = names["is_genuine"], int(time.time()), b'{"a":1}'
    header = webhook.signature("s3cret", now, body)
    assert is_genuine("s3cret", header, body)
    assert not is_genuine("other", header, body)
    assert not is_genuine("s3cret", header, body + b" ")
    assert not is_genuine("s3cret", header.replace(f"t={now}", f"t={now + 1}"), body)
    assert not is_genuine("s3cret", webhook.signature("s3cret", now - 600, body), body)
