"""A worker's life: telling its tasks to stop or make way, and bringing back at once what a killed pool process was sending."""

import gc
import logging
import mmap
import time
from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from billiard.exceptions import Terminated, WorkerLostError
from celery import Celery, bootsteps, signals
from celery.concurrency import prefork
from celery.worker.request import Request

from outbox.errors import OutboxError
from outbox.integrations.celery import envelope
from outbox.integrations.celery.waiting import Waiting
from outbox.outbox import Outbox
from outbox.telemetry import Maintained

_log = logging.getLogger("outbox.celery")

_LOOK_AGAIN_S = 0.5
"""Celery hears a pool process end by a pipe, which closes a moment before the process can be asked how; having come too early,
it looks again only after five seconds."""

_ON_THE_WAY_S = 1.0
"""From here to the moment at which the database looks how long ago a claim was."""

_REMEMBERED_TASKS = 100
"""Of one pool process. What is forgotten comes back when its horizon has passed."""

ASIDE = "aside"
"""In the result of a delivery task: how many of its messages go on in the pool process while the task is over."""


class Lifetime:
    """What the pool's processes, which are forked from it, know of their worker: whether it ends, and how its pool is."""

    def __init__(self, app: Celery, outbox: Outbox) -> None:
        self.outbox = outbox
        self.undertaker = Undertaker(outbox)
        self.waiting = Waiting()
        self.slots = 1
        """How many tasks one process of the pool runs at once."""
        self.keeps_processes = True
        """Whether a process of the pool lives as long as the pool: one that has to end would wait for what it has aside."""
        self._flag = mmap.mmap(-1, 1)
        signals.worker_shutting_down.connect(self._stop, weak=False)
        signals.worker_process_shutdown.connect(self._finish, weak=False)
        app.steps["worker"].add(_step(self))

    def stopping(self) -> bool:
        """Whether the worker has been told to shut down: begin nothing new."""
        return self._flag[0] != 0

    def begin(self, worker: Any, *, scales: bool) -> None:
        """A worker starts, perhaps not the first one in this process."""
        self._flag[0] = 0
        forks = issubclass(worker.pool_cls, prefork.TaskPool)
        self.slots = 1 if forks else worker.concurrency
        self.keeps_processes = not (worker.max_tasks_per_child or worker.max_memory_per_child or scales)
        if forks:
            gc.collect()
            gc.freeze()  # or the collector, which writes to what it looks at, unshares in each process what was loaded here

    def end(self) -> None:
        """The worker shuts down."""
        self._flag[0] = 1

    def _stop(self, **_signal: Any) -> None:
        self.end()

    def _finish(self, exitcode: int | None = None, **_signal: Any) -> None:
        """A pool process ends, and would take with it what goes on aside or is not on record. One that is terminated shall."""
        if (exitcode or 0) >= 0:
            self.outbox.delivery.finish()


def _step(lifetime: Lifetime) -> type[bootsteps.StartStopStep]:
    """The worker's start and end; its signal comes sooner, but only for a shutdown that was asked for by a signal."""

    class Step(bootsteps.StartStopStep):
        name = "outbox"

        def __init__(self, worker: Any, **options: Any) -> None:
            super().__init__(worker, **options)
            lifetime.begin(worker, scales=bool(options.get("autoscale")))

        def include(self, worker: Any) -> bool:
            """In front of the worker's other steps. They stop from last to first: the pool's tasks have ended when it does."""
            is_included = bool(super().include(worker))
            worker.steps.sort(key=lambda step: step is not self)
            return is_included

        def register_with_event_loop(self, worker: Any, hub: Any) -> None:
            if isinstance(worker.pool, prefork.TaskPool):
                lifetime.undertaker.is_on_duty = True
                hub.call_repeatedly(_LOOK_AGAIN_S, self._look_after_pool, worker.pool)

        def _look_after_pool(self, pool: Any) -> None:
            pool.maintain_pool()
            lifetime.undertaker.look(pool.info["processes"])

        def start(self, worker: Any) -> None:
            lifetime.waiting.begin(worker)

        def stop(self, _worker: Any) -> None:
            lifetime.waiting.end()
            lifetime.outbox.delivery.finish()  # of pools without processes of their own

        def terminate(self, worker: Any) -> None:
            self.stop(worker)

        def close(self, _worker: Any) -> None:
            lifetime.end()

    return Step


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
    """Brings back the rows of a pool process that died. Runs in the worker's main process, which alone can know it.

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
