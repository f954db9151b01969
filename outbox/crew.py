"""Threads for plain sends: as few as quick sends need, and one for each train where they are slow.

Threads of one process compute one at a time: sends that take a fraction of a millisecond are done sooner by one thread, one
after another, than by fifty that take turns.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from math import ceil
from queue import SimpleQueue

from outbox.outcome import Delivered
from outbox.sending import Train, send

QUICK_S = 0.01
"""Seconds in which the sends of a run should all have begun: so many that would take longer are spread over more threads."""
_LOOK_EVERY = 16
"""One run of so many begins with one thread: only a thread by itself shows how long a send takes, among others it waits."""


class Run:
    """Trains that may begin now. Each thread that works at a run takes them off its front, one after another."""

    def __init__(self, trains: Sequence[Train]) -> None:
        self.threads = 0
        self._trains = len(trains)
        self._waiting = deque(trains)
        self._moved_at = time.monotonic()

    def __len__(self) -> int:
        """How many trains still wait for a thread."""
        return len(self._waiting)

    @property
    def is_quick(self) -> bool:
        """Whether its trains go by one after another, in fewer threads than there are trains."""
        return self.threads < self._trains

    def next_train(self) -> Train | None:
        """The train at the front, for the caller alone; ``None`` when all have begun."""
        try:
            train = self._waiting.popleft()
        except IndexError:
            return None
        self._moved_at = time.monotonic()
        return train

    def has_stalled(self) -> bool:
        """Whether trains wait, and none has begun for too long."""
        return bool(self._waiting) and time.monotonic() - self._moved_at > QUICK_S


class Pace:
    """How long the sends of a channel take, and how many threads that is worth."""

    def __init__(self) -> None:
        self._runs = 0
        self._seconds = 0.0
        self._computing_s = 0.0

    def threads_for(self, sends: int) -> int:
        """As many as begin all of the sends in time, but no more than can wait while one of them computes."""
        self._runs += 1
        if self._runs % _LOOK_EVERY == 1 or not self._seconds:
            return 1
        in_time = ceil(sends * self._seconds / QUICK_S)
        useful = round(self._seconds / max(self._computing_s, 1e-6))
        return max(1, min(in_time, useful))

    def note(self, seconds: float, computing_s: float) -> None:
        """A send in a thread by itself took so long, and so much of it to compute."""
        self._seconds += (seconds - self._seconds) / 4
        self._computing_s += (computing_s - self._computing_s) / 4


class Crew:
    """The threads of one process. A wedged send keeps its thread for good; whoever comes after it gets a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: SimpleQueue[Run | None] = SimpleQueue()
        self._idle = 0
        self._is_disbanded = False
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)

    def begin(self, channel: str, trains: Sequence[Train]) -> Run:
        """Begin to send; returns at once."""
        run = Run(trains)
        self._lend(run, min(self._paces[channel].threads_for(sum(map(len, trains))), len(trains)))
        return run

    def help(self, run: Run) -> None:
        """Lend a run as many threads again, as far as trains wait for one."""
        self._lend(run, min(run.threads, len(run)))

    def disband(self) -> None:
        """End the threads that send nothing, and the others once they do."""
        with self._lock:
            self._is_disbanded = True
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._runs.put(None)

    def _lend(self, run: Run, threads: int) -> None:
        run.threads += threads
        with self._lock:
            spare = min(self._idle, threads)
            self._idle -= spare
        for _ in range(threads):
            self._runs.put(run)
        for _ in range(threads - spare):
            threading.Thread(target=self._work, name="outbox-send", daemon=True).start()

    def _work(self) -> None:
        while (run := self._runs.get()) is not None:
            while (train := run.next_train()) is not None:
                began, computed, alone = time.monotonic(), time.thread_time(), run.threads == 1
                sent = send_in_order(train)
                if alone:
                    took_s, computing_s = time.monotonic() - began, time.thread_time() - computed
                    self._paces[train[0].channel.name].note(took_s / sent, computing_s / sent)
            with self._lock:
                if self._is_disbanded:
                    return
                self._idle += 1


def send_in_order(train: Train) -> int:
    """Send a train in this thread, up to the first that is not delivered; those behind it are left to whoever hears of it.

    Returns how many were sent.
    """
    for sent, job in enumerate(train, start=1):
        outcome = send(job)
        job.done(job, outcome)
        if not isinstance(outcome, Delivered):
            return sent
    return len(train)
