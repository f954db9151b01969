"""What long-running commands log, on standard error."""

import logging
import sys

from outbox.policy.printable import escaped

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class _EscapingFormatter(logging.Formatter):
    """An error text comes from the other side: it may not forge lines or steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return (
            "\n".join(map(escaped, super().format(record).split("\n"))) if record.exc_info else escaped(super().format(record))
        )


def log_to_stderr(level: str) -> None:
    """Log the outbox's own lines of that level and above."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_EscapingFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("outbox")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
