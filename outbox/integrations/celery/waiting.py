"""Whether requests wait for a slot of a worker's pool: seen in its main process, told to the pool's by memory they share."""

import mmap
from collections.abc import Iterator
from typing import Any
from zlib import crc32

from celery import signals
from celery.concurrency import solo
from celery.worker import state

LOOK_EVERY_S = 0.1
_BYTES = 4
_NOBODY = 0
_SEVERAL = 2**32 - 1


class Waiting:
    """Which tasks' requests wait. It is enough to know whether they are one task's, and how many there are.

    A request counts from the second look at it: until then it may be on its way to a slot that is free.
    """

    def __init__(self) -> None:
        self._told = mmap.mmap(-1, _BYTES)
        self._before: set[str] = set()
        self._worker: Any = None
        self._will_look = False
        signals.task_received.connect(self._look_later, weak=False)

    def anybody_but(self, task: str) -> bool:
        """Whether others wait than requests of ``task``, or so many of these that they may keep others from coming in."""
        who = int.from_bytes(self._told[:], "big")
        return who not in {_NOBODY, _mark(task)}

    def begin(self, worker: Any) -> None:
        """Look now and then while this worker has requests: one without any must cost nothing."""
        self._worker = worker
        self._look_again()

    def end(self) -> None:
        """The worker ends."""
        self._worker = None

    def _look_later(self, **_signal: Any) -> None:
        if self._worker is not None and not self._will_look:
            self._will_look = True
            self._worker.timer.call_after(LOOK_EVERY_S, self._look_again)

    def _look_again(self) -> None:
        self._will_look = False  # first: a request that comes in the meantime must be seen, and some timers are threads
        if (worker := self._worker) is not None:
            self.look(worker)
        if state.requests:
            self._look_later()

    def look(self, worker: object) -> None:
        """Look again. For the worker's main process alone."""
        waiting = dict(_waiting())
        waited = [name for request_id, name in waiting.items() if request_id in self._before]
        self._before = set(waiting)
        self._tell(worker, waited)

    def _tell(self, worker: object, waited: list[str]) -> None:
        if isinstance(getattr(worker, "pool", None), solo.TaskPool) or len(waited) >= _slots(worker) or len(set(waited)) > 1:
            who = _SEVERAL  # a solo pool is the main process itself, which sees nobody come while a task runs
        else:
            who = _mark(waited[0]) if waited else _NOBODY
        self._told[:] = who.to_bytes(_BYTES, "big")


def _waiting() -> Iterator[tuple[str, str]]:
    scheduled = getattr(state, "scheduled_requests", ())  # for their countdown; an older Celery keeps them elsewhere
    for request in list(state.requests.values()):
        if request.time_start is None and request not in scheduled:
            yield request.id, request.name


def _slots(worker: object) -> int:
    return int(getattr(worker, "concurrency", None) or 1)


def _mark(task: str) -> int:
    return crc32(task.encode()) or 1
