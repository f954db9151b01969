"""The nudge: after a commit, have its messages sent at once. Losing one costs latency, never a message.

Where a channel's queue is empty, whoever serves it is idle: its next delivery task claims by itself what is due, one hop from
commit to send. Where tasks wait, a hop more costs nothing, and the relay fills whole batches.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from celery import Celery

from outbox.errors import BrokerUnavailable
from outbox.integrations.celery import envelope
from outbox.integrations.celery.forking import after_fork
from outbox.integrations.celery.names import RELAY_QUEUE, RELAY_TASK, channel_queue, deliver_task
from outbox.integrations.celery.publishing import Publication, Publisher
from outbox.telemetry import Nudged, NudgeFailed, Telemetry

_COMMIT_S = 0.002
"""A bare connection reports its commit just before it: about as long as that takes."""
_PAUSE_S = 0.05
"""Between two wake-ups of the relay: the pass that one began sees what is committed meanwhile. Also after a look that found
enough waiting."""
_QUIET_S = 0.02
"""So long after a pull its channel is looked at again, unless others were committed meanwhile, which look for themselves."""
_REST_S = 5.0
"""Pause after a failure: while the broker is away, beat's ticks are as good."""
_ENOUGH_WAITING = 10
"""Where so many wait, nobody relays at the moment, and more would only fill the broker."""


class Nudge:
    """Call it after a commit: it returns at once and never raises. One thread a process publishes for many commits.

    An application whose tasks run eagerly has no relay to wake: there a test delivers by ``outbox.drain()``.
    """

    _started: bool

    def __init__(self, app: Celery, telemetry: Telemetry, *, expires_s: float) -> None:
        self._app = app
        self._publisher = Publisher(app)
        self._telemetry = telemetry
        self._expires_s = expires_s
        self._begin_anew()
        after_fork(self._begin_anew)

    def __call__(self, channel: str | None = None, committed: bool = True) -> None:
        """``channel`` has a message that is due, or any may have; ``committed`` is false just before the commit."""
        if self._app.conf.task_always_eager:
            return
        with self._lock:
            self._wanted.add(channel)
            self._uncommitted |= not committed
            if not self._started:
                threading.Thread(target=self._run, args=(self._awake,), name="outbox-nudge", daemon=True).start()
                self._started = True
        self._awake.set()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._wanted: set[str | None] = set()
        self._uncommitted = False
        self._started = False
        self._pulled: set[str] = set()
        self._seen_idle: set[str] = set()

    def _run(self, awake: threading.Event) -> None:
        while True:
            try:
                if self._pulled and not awake.wait(_QUIET_S):
                    self._look_ahead()
                awake.wait()
                pause_s = self._wake(awake)
            except Exception as error:  # a hook of the application's may raise anything, and this thread must outlive it
                self._telemetry.emit(NudgeFailed(str(error)))
                pause_s = _REST_S
            time.sleep(pause_s)

    def _look_ahead(self) -> None:
        """See now whether the channels that were pulled are idle again, so that their next message need not wait for a look."""
        pulled, self._pulled = self._pulled, set()
        with suppress(BrokerUnavailable):  # nobody waits for it now; whoever publishes next will hear of it
            self._seen_idle = {channel for channel in pulled if self._has_none_waiting(channel)}

    def _wake(self, awake: threading.Event) -> float:
        """Publish for what was committed; returns for how many seconds that is enough."""
        if self._uncommitted:
            time.sleep(_COMMIT_S)
            self._seen_idle = set()  # the look is a little more time for the commit
        awake.clear()
        with self._lock:
            wanted, self._wanted, self._uncommitted = self._wanted, set(), False
        idle = {channel for channel in wanted if channel is not None and self._is_idle(channel)}
        self._pulled, self._seen_idle = set(), set()
        publications = list(self._publications(wanted, idle))
        if publications:
            self._publisher.publish(publications)
            self._telemetry.emit(Nudged())
        self._pulled = idle
        published = {publication.task for publication in publications}
        return _PAUSE_S if RELAY_TASK in published or (wanted and not published) else 0.0

    def _publications(self, wanted: set[str | None], idle: set[str]) -> Iterator[Publication]:
        """A pull for each channel that is idle; for all others together, one wake-up of the relay."""
        for channel in idle:
            options = {"queue": channel_queue(channel), "shadow": deliver_task(channel), "argsrepr": "(what is due)"}
            yield Publication(
                deliver_task(channel), envelope.pull(), {**options, "kwargsrepr": "{}", "expires": self._expires_s}
            )
        if wanted - idle and self._publisher.waiting(RELAY_QUEUE) < _ENOUGH_WAITING:
            yield Publication(RELAY_TASK, {"woken": True}, {"queue": RELAY_QUEUE, "expires": self._expires_s})

    def _is_idle(self, channel: str) -> bool:
        """As it was seen after the last pull, else as it is now."""
        return channel in self._seen_idle or (deliver_task(channel) in self._app.tasks and self._has_none_waiting(channel))

    def _has_none_waiting(self, channel: str) -> bool:
        return self._publisher.waiting(channel_queue(channel)) == 0
