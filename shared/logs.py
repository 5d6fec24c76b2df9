"""Logs: one event name per fact, bound once per request or delivery, JSON by default.

`bind()` puts what a request or delivery is about (uid, namespace, key, delivery count) on every
line that its task logs; contextvars keep tasks apart.
"""

import logging
import sys
from enum import Enum
from typing import TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

bind = structlog.contextvars.bound_contextvars
"""For the lines of a block."""

bind_task = structlog.contextvars.bind_contextvars
"""For all further lines of this task, and cheaper: where each request has a task of its own."""


class LogFormat(Enum):
    """How a log line looks."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(Enum):
    """What is worth a line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def set_up(level: LogLevel, form: LogFormat, stream: TextIO = sys.stderr) -> None:
    """Send everything to `stream`, Moorgate's own events and the libraries' alike."""
    number = logging.getLevelNamesMapping()[level.value.upper()]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if form is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _show_unprintable,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=max(number, logging.WARNING), stream=stream, format="%(levelname)s %(name)s %(message)s"
    )
    hide_requests()
    logging.getLogger("asyncio").addFilter(_is_news)


def _show_unprintable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """What users and neighbours wrote is shown as what it is: no terminal takes a part of it for a command."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = "".join(each if each.isprintable() else _shown(each, name) for each in value)
    return event


def _shown(character: str, name: str) -> str:
    """The lines of a traceback stay lines: JSON writes them as such, and a person reads them."""
    return "\n" if (character, name) == ("\n", "exception") else character.encode("unicode_escape").decode()


def hide_requests() -> None:
    """Of what aiohttp's servers cannot read as a request, log that it came and not what it says: a path may be a secret."""
    logging.getLogger("aiohttp.server").addFilter(_hide_request)


def _hide_request(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if type(error).__module__ == "aiohttp.http_exceptions":
        record.exc_info = record.exc_text = None
        record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}", ()
    return True


def _is_news(record: logging.LogRecord) -> bool:
    """False for what asyncio says whenever the other end of a TLS connection goes first: as NATS does at its stop."""
    return "eof_received() has no effect" not in record.getMessage()


def logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `part=name`. Made where it is used, so that set_up() has run."""
    log: FilteringBoundLogger = structlog.get_logger(part=name)
    return log
