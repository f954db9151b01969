"""Bringing back at once what a pool process held that died: in the worker's main process, which alone can know it."""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from billiard.exceptions import Terminated, WorkerLostError
from celery.worker.request import Request

from outbox.errors import OutboxError
from outbox.integrations.celery import envelope
from outbox.outbox import Outbox
from outbox.telemetry import Maintained

_log = logging.getLogger("outbox.celery")

_ON_THE_WAY_S = 1.0
"""From here to the moment at which the database looks how long ago a claim was."""

_REMEMBERED_TASKS = 100
"""Of one pool process. What is forgotten comes back when its horizon has passed."""

ASIDE = "aside"
"""In the result of a delivery task: how many of its messages go on in the pool process while the task is over."""


@dataclass(frozen=True, slots=True)
class _Aside:
    """A task that is over while its messages go on in the pool process."""

    kwargs: dict[str, Any]
    began_at: float | None
    """Seconds since the epoch."""
    until: float
    """When the last of them has ended (monotonic)."""

    @property
    def has_claimed(self) -> bool:
        """Whether it came without claims, and made its own."""
        return not self.kwargs.get("claims")


class Undertaker:
    """Brings back the rows of a pool process that died.

    It works in the main process's own thread, so that nothing of it is half-done while that thread forks a replacement, and
    leaves no connection behind, because none may cross a fork.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.is_on_duty = False
        """Whether this is the main process of a pool of processes, and will be asked to look after them."""
        self._outbox = outbox
        self._aside: defaultdict[int, deque[_Aside]] = defaultdict(deque)
        """By process."""

    def remember(self, pid: int, kwargs: dict[str, Any], began_at: float | None, for_s: float) -> None:
        """Messages of a task that began then (seconds since the epoch) go on in process ``pid``, for so long at the most."""
        if not self.is_on_duty:
            return
        tasks, now = self._aside[pid], time.monotonic()
        tasks.append(_Aside(kwargs, began_at, now + for_s))
        while tasks and (len(tasks) > _REMEMBERED_TASKS or tasks[0].until <= now):
            tasks.popleft()

    def look(self, pids: Collection[int]) -> None:
        """These are the pool's processes now: of those that died between two tasks nobody else tells."""
        for pid in self._aside.keys() - set(pids):
            self.bury(pid)

    def bury(self, pid: int, *tasks: dict[str, Any], began_at: float | None = None) -> None:
        """Rescue what process ``pid`` was sending, and give back what its tasks had not begun, or had claimed themselves.

        ``began_at`` (seconds since the epoch) is when its last task did; one that had claimed and goes on aside did sooner.
        Matched by owner, never by lease alone: the lease of a batch says nothing about who took it. Where the database does not
        answer, time does the same: the lease runs out, the horizon passes.
        """
        outbox, owner, now = self._outbox, self._outbox.owner_of(pid), time.monotonic()
        aside = [task for task in self._aside.pop(pid, ()) if task.until > now]
        claiming = [began_at, *(task.began_at for task in aside if task.has_claimed)]
        since = min((moment for moment in claiming if moment is not None), default=None)
        carried = (*tasks, *(task.kwargs for task in aside))
        try:
            brought_back = outbox.maintenance.rescue_owned(owner)
            if since is not None:
                within_s = time.time() - since + _ON_THE_WAY_S
                brought_back += outbox.maintenance.recall(owner, round(within_s * 1_000))
            claims = [claim for task in carried for claim in envelope.unpack(task.get("v"), task.get("claims"))]
            brought_back += outbox.store.release(claims)
        except (OutboxError, envelope.UnreadableEnvelope) as error:
            _log.warning("the rows of dead process %s wait for their lease to run out: %s", pid, error)
        else:
            outbox.telemetry.emit(Maintained("rescue of a dead process", brought_back))
        finally:
            outbox.store.engine.dispose()


def request_class(undertaker: Undertaker) -> type[Request]:
    """The request class of the tasks that claim or deliver: hears in the main process that the process of a task was lost."""

    class OutboxRequest(Request):
        def __init_subclass__(cls, **options: Any) -> None:
            """Celery derives a class for each task, with an ``on_success`` that calls nobody's."""
            super().__init_subclass__(**options)
            succeed: Any = cls.on_success

            def on_success(self: OutboxRequest, answer: Any, **kwargs: Any) -> Any:
                failed, result, _runtime = answer
                if not failed and f"{ASIDE!r}: " in str(result):
                    undertaker.remember(int(self.worker_pid or 0), self.kwargs, self.time_start, self.task.time_limit or 0)
                return succeed(self, answer, **kwargs)

            cls.on_success = on_success  # type: ignore[assignment,method-assign]

        def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
            result = super().on_failure(exc_info, send_failed_event, return_ok)
            if self.worker_pid and _is_lost(exc_info.exception):
                tasks = [self.kwargs] if "claims" in self.kwargs else []
                undertaker.bury(int(self.worker_pid), *tasks, began_at=self.time_start)
            return result

    return OutboxRequest


def _is_lost(error: BaseException) -> bool:
    """Whether the pool has seen the process end: by itself, or because an operator terminated the task."""
    return isinstance(getattr(error, "exc", error), WorkerLostError | Terminated)
