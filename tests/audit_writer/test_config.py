"""The audit-writer's settings."""

from pathlib import Path

import pytest

from services.audit_writer import config
from shared.errors import BadSetting


def test_every_setting_has_a_default() -> None:
    settings = config.load({})
    assert settings.retention == 168 * 3600
    assert settings.metrics_listen.port == 9090
    assert settings.source.startswith("moorgate/audit-writer/")


@pytest.mark.parametrize("value", ["0", "100ms", "a week", "-1h"])
def test_a_retention_that_keeps_nothing_stops_the_process(value: str) -> None:
    with pytest.raises(BadSetting, match="MOORGATE_AUDIT_RETENTION"):
        config.load({"MOORGATE_AUDIT_RETENTION": value})


def test_the_page_is_off_and_wants_a_certificate_where_it_is_on(tmp_path: Path) -> None:
    assert config.load({}).page is None
    on = {"MOORGATE_PAGE_LISTEN": "127.0.0.1:0"}
    with pytest.raises(BadSetting, match=r"^MOORGATE_PAGE_CERT_FILE is not set: it is required"):
        config.load(on)
    file = tmp_path / "file"
    file.write_text("x")
    files = {"MOORGATE_PAGE_CERT_FILE": str(file), "MOORGATE_PAGE_KEY_FILE": str(file)}
    page = config.load(on | files).page
    assert page is not None
    assert page.files.key == file


def test_without_a_cluster_there_is_no_page() -> None:
    with pytest.raises(BadSetting, match=r"^MOORGATE_PAGE_LISTEN is ':8444', and MOORGATE_CLUSTER is none"):
        config.load({"MOORGATE_CLUSTER": "none", "MOORGATE_PAGE_LISTEN": ":8444"})
