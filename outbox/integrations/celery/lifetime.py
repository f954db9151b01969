"""A worker's life: its start, its pool, what its tasks know of both, and its end in good order."""

import gc
import mmap
from typing import Any

from celery import Celery, bootsteps, signals
from celery.concurrency import prefork

from outbox.integrations.celery.undertaker import Undertaker
from outbox.integrations.celery.waiting import Waiting
from outbox.outbox import Outbox

_LOOK_AGAIN_S = 0.5
"""Celery hears a pool process end by a pipe, which closes a moment before the process can be asked how; having come too early,
it looks again only after five seconds."""


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
