"""The nudge: after a commit, wake the relay from a background thread. Losing one costs latency, never a message."""

import threading
import time

from celery import Celery

from outbox.integrations.celery.forking import after_fork
from outbox.integrations.celery.names import RELAY_QUEUE, RELAY_TASK
from outbox.integrations.celery.publishing import Publication, Publisher
from outbox.telemetry import Nudged, NudgeFailed, Telemetry

_GATHER_S = 0.002
"""How long the commits of one moment are gathered into one wake-up; a bare connection reports its commit just before it."""
_PAUSE_S = 0.05
"""Between two wake-ups: the pass that one began sees what is committed meanwhile."""
_REST_S = 5.0
"""Pause after a failure: while the broker is away, beat's ticks are as good."""
_ENOUGH_WAITING = 10
"""Where so many wait, nobody relays at the moment, and more would only fill the broker."""


class Nudge:
    """Call it after a commit: it returns at once and never raises. One thread a process publishes for many commits.

    An application whose tasks run eagerly has no relay to wake: there a test delivers by ``outbox.drain()``.
    """

    def __init__(self, app: Celery, telemetry: Telemetry, *, expires_s: float) -> None:
        self._app = app
        self._publisher = Publisher(app)
        self._telemetry = telemetry
        self._wake_up = Publication(RELAY_TASK, {}, {"queue": RELAY_QUEUE, "expires": expires_s})
        self._begin_anew()
        after_fork(self._begin_anew)

    def __call__(self) -> None:
        if not self._app.conf.task_always_eager:
            self._start()
            self._wanted.set()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._started = False

    def _start(self) -> None:
        with self._lock:
            if not self._started:
                threading.Thread(target=self._run, args=(self._wanted,), name="outbox-nudge", daemon=True).start()
                self._started = True

    def _run(self, wanted: threading.Event) -> None:
        while True:
            wanted.wait()
            time.sleep(_GATHER_S)
            wanted.clear()
            try:
                if self._publisher.waiting(RELAY_QUEUE) < _ENOUGH_WAITING:
                    self._publisher.publish([self._wake_up])
                    self._telemetry.emit(Nudged())
            except Exception as error:  # a hook of the application's may raise anything, and this thread must outlive it
                self._telemetry.emit(NudgeFailed(str(error)))
                time.sleep(_REST_S)
            else:
                time.sleep(_PAUSE_S)
