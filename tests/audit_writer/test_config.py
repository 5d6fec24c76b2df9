"""The audit-writer's settings."""

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
