"""A worker's life: telling its tasks to stop, and bringing back at once what a killed pool process was sending."""

import logging
import mmap
from typing import Any

from billiard.exceptions import Terminated, WorkerLostError
from celery import Celery, bootsteps, signals
from celery.worker.request import Request

from outbox.errors import OutboxError
from outbox.integrations.celery import envelope
from outbox.outbox import Outbox
from outbox.telemetry import Maintained

_log = logging.getLogger("outbox.celery")

_LOOK_AGAIN_S = 0.5
"""Celery hears a pool process end by a pipe, which closes a moment before the process can be asked how; having come too early,
it looks again only after five seconds."""


class Lifetime:
    """The worker's wish to stop, in memory that the pool's processes share because they are forked from it."""

    def __init__(self, app: Celery) -> None:
        self._flag = mmap.mmap(-1, 1)
        signals.worker_shutting_down.connect(self._stop, weak=False)
        app.steps["worker"].add(_step(self))

    def stopping(self) -> bool:
        """Whether the worker has been told to shut down: begin nothing new."""
        return self._flag[0] != 0

    def begin(self) -> None:
        """A worker starts, perhaps not the first one in this process."""
        self._flag[0] = 0

    def end(self) -> None:
        """The worker shuts down."""
        self._flag[0] = 1

    def _stop(self, **_signal: Any) -> None:
        self.end()


def _step(lifetime: Lifetime) -> type[bootsteps.StartStopStep]:
    """The worker's start and end; its signal comes sooner, but only for a shutdown that was asked for by a signal."""

    class Step(bootsteps.StartStopStep):
        name = "outbox"

        def __init__(self, worker: Any, **options: Any) -> None:
            super().__init__(worker, **options)
            lifetime.begin()

        def register_with_event_loop(self, worker: Any, hub: Any) -> None:
            hub.call_repeatedly(_LOOK_AGAIN_S, worker.pool.maintain_pool)

        def close(self, _worker: Any) -> None:
            lifetime.end()

    return Step


class Undertaker:
    """Brings back the rows of a pool process that died. Runs in the worker's main process, which alone can know it.

    It works in the main process's own thread, so that nothing of it is half-done while that thread forks a replacement, and
    leaves no connection behind, because none may cross a fork.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def bury(self, pid: int, kwargs: dict[str, Any]) -> None:
        """Rescue what process ``pid`` was sending, and release what its task had not begun.

        Matched by owner, never by lease alone: the lease of a batch says nothing about who took it. Where the database does
        not answer, time does the same: the lease runs out, the horizon passes.
        """
        outbox = self._outbox
        try:
            rescued = outbox.maintenance.rescue_owned(outbox.owner_of(pid))
            released = outbox.store.release(envelope.unpack(kwargs.get("v"), kwargs.get("claims")))
        except (OutboxError, envelope.UnreadableEnvelope) as error:
            _log.warning("the rows of dead process %s wait for their lease to run out: %s", pid, error)
        else:
            outbox.telemetry.emit(Maintained("rescue of a dead process", rescued + released))
        finally:
            outbox.store.engine.dispose()


def request_class(undertaker: Undertaker) -> type[Request]:
    """The request class of delivery tasks: hears in the main process that the process of a task was lost."""

    class DeliveryRequest(Request):
        def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
            result = super().on_failure(exc_info, send_failed_event, return_ok)
            if self.worker_pid and _is_lost(exc_info.exception):
                undertaker.bury(int(self.worker_pid), self.kwargs)
            return result

    return DeliveryRequest


def _is_lost(error: BaseException) -> bool:
    """Whether the pool has seen the process end: by itself, or because an operator terminated the task."""
    return isinstance(getattr(error, "exc", error), WorkerLostError | Terminated)
