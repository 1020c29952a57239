"""Logs: one JSON object a line on standard error, for the service, uvicorn and everything else in the process.

{"t": "2026-03-02T10:00:00.000Z", "level": "error", "logger": "uvicorn", "message": "...", "route": "/v1/update"}

A line that is about a request has its `request_id`, the same that its answer has in the header X-Request-Id, and its
`trace_id` where it is a part of a trace.
"""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, NamedTuple

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class Request(NamedTuple):
    """What a request is called."""

    id: str
    trace: str | None


REQUEST: ContextVar[Request | None] = ContextVar("request", default=None)  # the request under way in this task


class JsonLines(logging.Formatter):
    """A record as one line of JSON: its own fields, what was given as `extra`, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "t": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request := REQUEST.get()) is not None:
            line["request_id"] = request.id
            if request.trace is not None:
                line["trace_id"] = request.trace
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str) -> None:
    """All logs of the process from the level on, as lines on standard error. Of other packages no debug."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    ours = getattr(logging, level.upper())
    root.setLevel(max(ours, logging.WARNING))
    for name in ("onlineguard_service", "onlineguard"):
        logging.getLogger(name).setLevel(ours)
    logging.getLogger("uvicorn").setLevel(max(ours, logging.WARNING))  # what it says of its start is said by serve
    logging.captureWarnings(True)
