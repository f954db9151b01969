"""Jobs that are done again and again until somebody says stop, and that a failure does not end."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from outbox.errors import OutboxError

LONGEST_PAUSE_S = 30.0

_log = logging.getLogger("outbox.cli")


class Stop(Protocol):
    """Who is asked whether to go on."""

    def requested(self) -> bool:
        """Whether to stop."""

    def wait(self, seconds: float) -> bool:
        """Wait that long at the most; returns whether to stop."""


@dataclass
class Job:
    """What is done every ``every_s`` seconds; after failures in a row less and less often, down to every 30 s."""

    name: str
    every_s: float
    run: Callable[[], object]
    due_at: float = 0.0
    failures: int = 0

    def run_once(self) -> None:
        """One run, and when the next one is due. What it raises is logged."""
        started = time.monotonic()
        try:
            self.run()
        except Exception as error:
            self.failures += 1
            pause_s = min(self.every_s * 2**self.failures, max(self.every_s, LONGEST_PAUSE_S))
            reason, unexpected = _explained(error)
            _log.error("%s failed, next try in %.3g s: %s", self.name, pause_s, reason, exc_info=unexpected)
            self.due_at = time.monotonic() + pause_s
        else:
            self.failures = 0
            self.due_at = started + self.every_s


def _explained(error: Exception) -> tuple[str, Exception | None]:
    """The reasons for people, and what of the error is a defect, worth its traceback."""
    group = error if isinstance(error, ExceptionGroup) else ExceptionGroup("", [error])
    reasons = dict.fromkeys(str(one) or type(one).__name__ for one in group.exceptions)
    _expected, unexpected = group.split((OutboxError, SQLAlchemyError))
    return "; ".join(reasons), unexpected


def run_until_stopped(jobs: Sequence[Job], stop: Stop) -> None:
    """Run each job whenever it is due."""
    while not stop.requested():
        job = min(jobs, key=lambda job: job.due_at)
        if not stop.wait(job.due_at - time.monotonic()):
            job.run_once()
