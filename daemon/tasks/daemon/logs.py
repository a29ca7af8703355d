"""Logging of the daemon: one line a record on stderr, in the form that whoever reads stderr wants."""

import json
import logging
import sys
import time

from tasks.config import LogSettings
from tasks.errors import ConfigError
from tasks.notify import journal_attached

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
#: syslog priorities, which journald takes from a `<N>` at the start of a line
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
#: Control characters would let an event forge log lines, marks of direction and invisible ones what they say.
_PRINTABLE = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}
_MARKS = (0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
_PRINTABLE |= {code: f"\\u{code:04x}" for code in _MARKS}


class TextFormatter(logging.Formatter):
    """`2026-01-01T00:00:00.000Z WARNING tasks.spool message`; under journald without the time, with the priority."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().translate(_PRINTABLE)
        if record.exc_info:
            message += "\\n" + self.formatException(record.exc_info).replace("\n", "\\n").translate(_PRINTABLE)
        if self._journal:
            return f"<{_PRIORITIES.get(record.levelno, 6)}>{record.name}: {message}"
        return f"{_timestamp(record)} {record.levelname} {record.name} {message}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, exception."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def configure(settings: LogSettings) -> None:
    """Point the root logger at stderr. Raises ConfigError for a level or format that does not exist."""
    if settings.level not in _LEVELS:
        raise ConfigError(f"log.level = {settings.level!r}: accepted are {', '.join(_LEVELS)}")
    if settings.format not in ("auto", "text", "json"):
        raise ConfigError(f"log.format = {settings.format!r}: accepted are auto, text, json")
    handler = logging.StreamHandler(sys.stderr)
    journal = settings.format == "auto" and journal_attached(2)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter(journal=journal))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(_LEVELS[settings.level])
    for noisy in ("aiosqlite", "watchfiles", "uvicorn", "asyncio"):
        logging.getLogger(noisy).setLevel(max(_LEVELS[settings.level], logging.WARNING))


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
