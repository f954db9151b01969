"""Logs for programs: one JSON object a line, in place of Celery's lines for people."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from celery import signals
from celery.utils.log import get_multiprocessing_logger


class JsonLines(logging.Formatter):
    """When (ISO 8601, UTC), how severe, who, which process, what; under ``outbox`` the fields of an event of the outbox."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told: dict[str, Any] = {
            "time": moment,
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if (fields := getattr(record, "outbox", None)) is not None:
            told["outbox"] = fields
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def write_json() -> None:
    """Have Celery's processes log in JSON, whatever they log."""
    for configured in (signals.after_setup_logger, signals.after_setup_task_logger):
        configured.connect(_format, weak=False)


def _format(logger: logging.Logger, **_signal: Any) -> None:
    pool: logging.Logger | None = get_multiprocessing_logger()  # which tells of dead processes, and is signalled of nowhere
    for handler in [*logger.handlers, *(pool.handlers if pool is not None else ())]:
        handler.setFormatter(JsonLines())
