"""Sends under way: ``async`` adapters on one event loop per process, plain ones on threads; each ends as an outcome.

The delivery loop stays free meanwhile, so that it settles, extends leases and notices a send that never returns.
"""

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from outbox import checkpoints
from outbox.channels.base import Channel
from outbox.errors import NotReady
from outbox.message import Attempt, Message, Receipt
from outbox.outcome import Delivered, Outcome, Rejected, Retry, Unknown, Withheld
from outbox.policy.classification import classify
from outbox.policy.retry import OnUnknown
from outbox.tracing import Tracing

_log = logging.getLogger("outbox")

NOT_BEGUN = None
"""In the place of an outcome: it was too late to begin, and nothing was sent."""

GRACE_S = 0.25
"""Beyond its timeout: what an ``async`` send that was cancelled needs to say so."""


@dataclass(slots=True, eq=False)
class Job:
    """One send. It begins before ``begin_by`` (monotonic seconds) or never; ``done`` hears how it ended, in any thread."""

    channel: Channel
    message: Message
    attempt: Attempt
    begin_by: float
    done: Callable[["Job", Outcome | None], None]
    transact: "Callable[[Channel, Message, Attempt], Outcome] | None" = None
    """For a transactional channel: makes the attempt and settles it."""
    tracing: Tracing = field(default_factory=Tracing)
    taken_at: float = field(default_factory=time.monotonic)
    found_unsent: bool = False
    """Whether reconciliation found that no earlier attempt was accepted."""
    outcome: Outcome | None = None
    error_type: str | None = None
    task: "asyncio.Task[None] | None" = None
    _begun_at: float | None = field(default=None, init=False)
    _given_up: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def begin(self) -> bool:
        """Whether to send: nobody gave it up, and the whole timeout still lies within the lease."""
        with self._lock:
            now = time.monotonic()
            if self._given_up or now > self.begin_by:
                self._given_up = True
            else:
                self._begun_at = now
                self.attempt = self.attempt.begun_after(round((now - self.taken_at) * 1000))
            return not self._given_up

    @property
    def duration_ms(self) -> int:
        """Since it began, or, if it did not, since it was taken."""
        began = self.taken_at if self._begun_at is None else self._begun_at
        return round((time.monotonic() - began) * 1000)

    def give_up(self) -> bool:
        """Forbid the send; false when it has begun already."""
        with self._lock:
            self._given_up = self._begun_at is None
            return self._given_up

    def cancel(self) -> None:
        """Stop an ``async`` send; a plain one cannot be stopped, and is left to its timeout."""
        if self.task is not None:
            self.task.get_loop().call_soon_threadsafe(self.task.cancel)

    def is_overdue(self) -> bool:
        """Whether it did not begin in time, or did not return within its timeout."""
        latest = self.begin_by if self._begun_at is None else self._begun_at + self.attempt.timeout_s
        return time.monotonic() > latest + GRACE_S


class Senders:
    """The process's event loop and threads for sending, started when first needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._idle = 0

    def start(self, channel: Channel, jobs: Sequence[Job]) -> None:
        """Begin the sends; returns at once."""
        if channel.is_async:
            self._event_loop().call_soon_threadsafe(_spawn, jobs)
        else:
            for job in jobs:
                self._start_in_thread(job)

    def leave_blocked_loop(self) -> None:
        """Let later sends have a new event loop if a send that never yields holds the present one."""
        loop, answered = self._loop, threading.Event()
        if loop is None:
            return
        loop.call_soon_threadsafe(answered.set)
        if not answered.wait(GRACE_S):
            with self._lock:
                self._loop = None if self._loop is loop else self._loop

    def close(self, channels: Sequence[Channel], timeout_s: float = 5.0) -> None:
        """Let the channels give back their connections, and end the event loop and the threads that send nothing."""
        with self._lock:
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._jobs.put(None)
        if self._loop is None and not channels:
            return
        loop = self._event_loop()
        with self._lock:
            self._loop = None
        try:
            asyncio.run_coroutine_threadsafe(_close_all(channels), loop).result(timeout_s)
        except TimeoutError:
            _log.warning("the channels did not give back their connections within %g s", timeout_s)
        loop.call_soon_threadsafe(loop.stop)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name="outbox-send-loop", daemon=True).start()
            return self._loop

    def _start_in_thread(self, job: Job) -> None:
        """A wedged send keeps its thread for good; the next job then gets a new one."""
        with self._lock:
            spare = self._idle > 0
            if spare:
                self._idle -= 1
        self._jobs.put(job)
        if not spare:
            threading.Thread(target=self._work, name="outbox-send", daemon=True).start()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            outcome = _send(job)
            with self._lock:
                self._idle += 1
            job.done(job, outcome)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _close_all(channels: Sequence[Channel]) -> None:
    under_way = asyncio.all_tasks() - {asyncio.current_task()}
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, *map(_close, channels), return_exceptions=True)


async def _close(channel: Channel) -> None:
    try:
        await channel.aclose()
    except Exception:
        _log.exception("channel %s did not give back its connections", channel.name)


def _spawn(jobs: Sequence[Job]) -> None:
    loop = asyncio.get_running_loop()
    for job in jobs:
        job.task = loop.create_task(_send_async(job))


def _send(job: Job) -> Outcome | None:
    if not job.begin():
        return NOT_BEGUN
    with job.tracing.sending(job):
        job.outcome = _try(job)
    return job.outcome


async def _send_async(job: Job) -> None:
    if not job.begin():
        return job.done(job, NOT_BEGUN)
    with job.tracing.sending(job):
        job.outcome = await _try_within_timeout(job)
    return job.done(job, job.outcome)


def _try(job: Job) -> Outcome:
    channel, message = job.channel, job.message
    try:
        if _must_reconcile(job) and (known := _reconciled(job, channel.find_delivery(message))) is not None:
            return known
        _read(message)
        checkpoints.reach("send", "before")
        if job.transact is not None:
            return job.transact(channel, message, job.attempt)
        return _accepted(channel.send_final(message, job.attempt))
    except BaseException as error:  # whatever a handler raises, SystemExit too, its row must be settled
        return _failed(job, error)


async def _try_within_timeout(job: Job) -> Outcome:
    channel, message = job.channel, job.message
    limit = asyncio.timeout(job.attempt.timeout_s)
    try:
        async with limit:
            if _must_reconcile(job) and (known := _reconciled(job, await channel.find_delivery(message))) is not None:
                return known
            _read(message)
            checkpoints.reach("send", "before")
            return _accepted(await channel.send_final(message, job.attempt))
    except asyncio.CancelledError as error:
        job.error_type = type(error).__name__
        return Unknown("the send was interrupted")
    except BaseException as error:  # SystemExit would end the event loop, and with it every other send
        outcome = _failed(job, error)
        expired = isinstance(error, TimeoutError) and limit.expired()
        return Unknown(f"no answer within {job.attempt.timeout_s:g} s") if expired else outcome


def _read(message: Message) -> None:
    """Decode what the adapter will read, so that a corrupt row is set aside before anything is sent."""
    _ = message.payload, message.headers


def _must_reconcile(job: Job) -> bool:
    return job.message.outcome_unknown and job.channel.on_unknown is OnUnknown.RECONCILE


def _reconciled(job: Job, found: Receipt | bool | None) -> Outcome | None:
    """Sent: delivered. Not sent: ``None``, go on and send. Cannot tell: park."""
    if found is False:
        job.found_unsent = True
        return None
    if found is None:
        return Unknown("nobody can tell whether it was sent before", park=True)
    return _accepted(found)


def _accepted(answer: Any) -> Outcome:
    if inspect.isawaitable(answer) or inspect.isgenerator(answer) or inspect.isasyncgen(answer):
        if inspect.iscoroutine(answer):
            answer.close()  # or Python warns that it was never awaited
        raise NotReady(f"the adapter returned a {type(answer).__name__} that was never run: declare it with `async def`")
    return Delivered(answer if isinstance(answer, Receipt) else Receipt())


def _failed(job: Job, error: BaseException) -> Outcome:
    job.error_type = type(error).__name__
    try:
        outcome = classify(error)
    except Exception:  # its text cannot be had
        outcome = Retry(type(error).__name__)
    if _must_reconcile(job) and not job.found_unsent and isinstance(outcome, Rejected | Withheld):
        told = outcome.error if isinstance(outcome, Rejected) else outcome.reason
        return Unknown(f"nobody can tell whether it was sent before: {told}", park=True)
    return outcome
