"""What a call comes to, and in which words."""

import socket
import ssl
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from services.audit_writer.notifications import notifier, sender
from services.audit_writer.notifications.sender import Outcome

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = ConnectionKey("hunter2.example", 443, True, True, None, None, None)  # noqa: FBT003  as aiohttp has it


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, Outcome.SENT) for status in (200, 202, 204)),
        *((status, Outcome.RETRY) for status in (301, 307, 408, 425, 429, 500, 501, 503, 599)),
        *((status, Outcome.REFUSED) for status in (400, 401, 403, 404, 410, 413, 422)),
    ],
)
def test_the_status_decides(status: int, outcome: Outcome) -> None:
    assert sender._answer(status, "").outcome is outcome


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("7", 7),
        ("0", 0),
        ("-7", 0),
        ("9" * 5000, sender.LONGEST_RETRY_AFTER),
        ("3600", sender.LONGEST_RETRY_AFTER),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0),
        ("Mon, 23 Nov 2099 11:00:00 GMT", sender.LONGEST_RETRY_AFTER),
        ("Mon, 23 Nov 2026 12:00:30 -0000", 0),
        ("soon", 0),
        ("²", 0),
    ],
)
def test_retry_after_is_heeded_and_bounded(header: str, seconds: float) -> None:
    assert sender._seconds(header, NOW) == seconds


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "hunter2")),
            "Connection refused",
        ),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "hunter2")), "its name is not known"),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "hunter2")), "TLS failed"),
        (aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError("hunter2")), "not trusted"),
        (TimeoutError("hunter2"), "no answer in time"),
        (aiohttp.ServerTimeoutError("hunter2"), "no answer in time"),
        (aiohttp.InvalidURL("http://hunter2"), "InvalidURL"),
        (aiohttp.ServerDisconnectedError("hunter2"), "ServerDisconnectedError"),
        (OSError(5, "hunter2"), "OSError"),
    ],
)
def test_a_failure_is_told_without_the_address(error: Exception, words: str) -> None:
    assert words in sender._reason(error)
    assert "hunter2" not in sender._reason(error)


def test_tries_grow_apart_and_stay_bounded() -> None:
    for tries, nominal in ((1, 1.0), (2, 2.0), (9, 256.0), (10, 300.0), (10**6, 300.0)):
        delays = [notifier._delay(tries, 0.0) for _ in range(50)]
        assert nominal / 2 <= min(delays) < max(delays) <= nominal
    assert all(60.0 <= notifier._delay(1, 60.0) <= 90.0 for _ in range(50))
