"""Structured logs: one JSON object a line, labels and numbers, never a text of a request.

Our own messages are made of constants and names from the configuration. A library's message may quote what it choked
on, so it is not repeated: the line says which library, where, and the type of the exception.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Final

import orjson

_FIELDS = "cauce"
# uvicorn's are constants and addresses.
_QUOTABLE: Final = ("cauce", "uvicorn")
_NOT_REPEATED: Final = "a library's message, not repeated: it may quote a request"

_log = logging.getLogger("cauce")


class JsonLines(logging.Formatter):
    """A record as one line of JSON. An exception is its type and places: its message could quote what it choked on."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        quotable = record.name.partition(".")[0] in _QUOTABLE
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if quotable else _NOT_REPEATED,
        }
        if not quotable:
            line["from"] = f"{record.pathname}:{record.lineno} {record.funcName}"
        line.update(getattr(record, _FIELDS, {}))
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["at"] = places(record.exc_info[1])
        return orjson.dumps(line, default=str).decode()


class _StandardError(logging.StreamHandler):  # type: ignore[type-arg]
    """Lines on standard error. One that cannot be written is lost: `logging` would print its arguments instead."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing."""


def places(error: BaseException) -> list[str]:
    """Where an exception came through: `file:line function`, innermost last."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]


def configure(level: str) -> None:
    """Send every log line to standard error as JSON; warnings, and exceptions that nobody caught, too."""
    handler = _StandardError(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _log.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers[:] = []
        logging.getLogger(name).propagate = name != "uvicorn.access"
    logging.captureWarnings(True)
    threading.excepthook = lambda uncaught: _uncaught(uncaught.exc_value)
    sys.unraisablehook = lambda uncaught: _uncaught(uncaught.exc_value)
    sys.excepthook = lambda _type, error, _trace: _uncaught(error)


def _uncaught(error: BaseException | None) -> None:
    _log.error("an exception that nobody caught", exc_info=error)


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Extra fields of a log line: `log.info("...", extra=fields(model="gpt"))`."""
    return {_FIELDS: values}
