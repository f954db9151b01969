"""The sends of one delivery loop that were taken and have not ended: under way, or waiting for their thread."""

import time
from collections.abc import Iterable, Iterator, Sequence

from outbox.channels.base import Channel
from outbox.crew import QUICK_S, Run
from outbox.senders import Senders
from outbox.sending import Job, Train

_LOOK_EVERY_S = 0.25


class UnderWay:
    """Knows how many there are, which are slow or overdue, and helps those that wait behind a slow one."""

    def __init__(self, channel: Channel, senders: Senders) -> None:
        self._channel = channel
        self._senders = senders
        self._jobs: set[Job] = set()
        self._runs: list[Run] = []
        self.look_at = time.monotonic() + _LOOK_EVERY_S
        """When to look after them (monotonic seconds), whatever answers come."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def __contains__(self, job: object) -> bool:
        return job in self._jobs

    def add(self, jobs: Iterable[Job]) -> None:
        """They were taken."""
        self._jobs.update(jobs)

    def start(self, trains: Sequence[Train]) -> None:
        """Begin to send what was taken."""
        self._runs = [*filter(len, self._runs), self._senders.start(self._channel, trains)]
        self.look_at = min(self.look_at, time.monotonic() + QUICK_S)

    def discard(self, job: Job) -> None:
        """It has ended, or will never begin."""
        self._jobs.discard(job)

    @property
    def any_quick(self) -> bool:
        """Whether some go by one after another, in fewer threads than there are trains."""
        return any(run.is_quick for run in self._runs)

    def any_slow(self, seconds: float) -> bool:
        """Whether one of them takes so long already."""
        return any(job.duration_ms >= seconds * 1000 for job in self._jobs)

    def look_after(self) -> list[Job]:
        """When it is time: help those that wait for a thread behind a slow send, and return those that do not come back."""
        now = time.monotonic()
        if now < self.look_at:
            return []
        self.look_at = now + (QUICK_S if any(self._runs) else _LOOK_EVERY_S)
        for run in self._runs:
            if run.has_stalled():
                self._senders.help(run)
        return [job for job in self._jobs if job.is_overdue() and job.before not in self._jobs]
