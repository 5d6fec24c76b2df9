"""The process: a wrong setting is one line and an exit code."""

import pytest

from services.audit_writer.__main__ import main
from shared.lifecycle import EXIT_BAD_SETTING


def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOORGATE_AUDIT_RETENTION", "soon")
    assert main() == EXIT_BAD_SETTING
    assert "MOORGATE_AUDIT_RETENTION is 'soon'" in capsys.readouterr().err
