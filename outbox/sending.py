"""One send, from its beginning to an outcome: in a thread for a plain adapter, on an event loop for an ``async`` one."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from outbox import checkpoints
from outbox.channels.base import Channel
from outbox.errors import NotReady
from outbox.message import Attempt, Message, Receipt
from outbox.outcome import Delivered, Outcome, Rejected, Retry, Unknown, Withheld
from outbox.policy.classification import classify
from outbox.policy.retry import OnUnknown
from outbox.tracing import Tracing

NOT_BEGUN = None
"""In the place of an outcome: it was too late to begin, and nothing was sent."""

GRACE_S = 0.25
"""Beyond its timeout: what an ``async`` send that was cancelled needs to say so."""


@dataclass(slots=True, eq=False)
class Job:
    """One send. It begins before ``begin_by`` (monotonic seconds) or never; ``done`` hears how it ended, in any thread."""

    channel: Channel
    message: Message
    begin_by: float
    done: Callable[["Job", Outcome | None], None]
    transact: "Callable[[Channel, Message, Attempt], Outcome] | None" = None
    """For a transactional channel: makes the attempt and settles it."""
    tracing: Tracing = field(default_factory=Tracing)
    train: "Train" = field(default_factory=list)
    """The jobs of its ordering key that were taken together, itself among them: each begins after the one before it."""
    taken_at: float = field(default_factory=time.monotonic)
    attempt: Attempt = field(init=False)
    """What the adapter is told, from when the send begins."""
    found_unsent: bool = False
    """Whether reconciliation found that no earlier attempt was accepted."""
    outcome: Outcome | None = None
    error_type: str | None = None
    task: "asyncio.Task[None] | None" = None
    _begun_at: float | None = field(default=None, init=False)
    _ended_at: float | None = field(default=None, init=False)
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
                self.attempt = attempt_of(self.message, self.channel, waited_ms=round((now - self.taken_at) * 1000))
            return not self._given_up

    @property
    def before(self) -> "Job | None":
        """The job of its train that must be delivered first."""
        place = self.train.index(self)
        return self.train[place - 1] if place else None

    @property
    def behind(self) -> "Train":
        """The jobs of its train that wait for it."""
        return self.train[self.train.index(self) + 1 :]

    @property
    def duration_ms(self) -> int:
        """From its beginning, or, if it did not begin, from the take, to its end or now."""
        began = self.taken_at if self._begun_at is None else self._begun_at
        ended = time.monotonic() if self._ended_at is None else self._ended_at
        return round((ended - began) * 1000)

    def give_up(self) -> bool:
        """Forbid the send; false when it has begun already."""
        with self._lock:
            self._given_up = self._begun_at is None
            return self._given_up

    def end(self, outcome: Outcome) -> Outcome:
        """Note how the send ended, and when."""
        self._ended_at = time.monotonic()
        self.outcome = outcome
        return outcome

    def cancel(self) -> None:
        """Stop an ``async`` send; a plain one cannot be stopped, and is left to its timeout."""
        if self.task is not None:
            with suppress(RuntimeError):  # a loop that is closed has nothing under way
                self.task.get_loop().call_soon_threadsafe(self._cancel, self.task)

    def _cancel(self, task: "asyncio.Task[None]") -> None:
        """On the event loop, where the next of the train may have begun meanwhile, which the same task sends."""
        if self.outcome is None:
            task.cancel()

    def is_overdue(self) -> bool:
        """Whether it did not begin in time, or did not return within its timeout."""
        latest = self.begin_by if self._begun_at is None else self._begun_at + self.channel.timeout
        return time.monotonic() > latest + GRACE_S


Train = list[Job]
"""Jobs of one ordering key, sent one after another."""


def attempt_of(message: Message, channel: Channel, *, waited_ms: int = 0) -> Attempt:
    """What the adapter is told about the attempt for which ``message`` was taken, begun so long after the take."""
    return Attempt(
        number=message.attempt_count,
        lease=message.lease,
        idempotency_key=message.key,
        is_recovery=message.attempt_count > 1 or message.outcome_unknown,
        deadline_ms=(message.last_attempt_at or 0) + waited_ms + round(channel.timeout * 1000),
        timeout_s=channel.timeout,
    )


def send(job: Job) -> Outcome | None:
    """Make the attempt in this thread; its outcome, or ``NOT_BEGUN``."""
    if not job.begin():
        return NOT_BEGUN
    with job.tracing.sending(job):
        return job.end(_try(job))


async def send_async(job: Job) -> Outcome | None:
    """Make the attempt on this event loop; its outcome, or ``NOT_BEGUN``."""
    if not job.begin():
        return NOT_BEGUN
    with job.tracing.sending(job):
        return job.end(await _try_within_timeout(job))


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
    if answer is None or isinstance(answer, Receipt):
        return Delivered(answer or Receipt())
    if inspect.isawaitable(answer) or inspect.isgenerator(answer) or inspect.isasyncgen(answer):
        if inspect.iscoroutine(answer):
            answer.close()  # or Python warns that it was never awaited
        raise NotReady(f"the adapter returned a {type(answer).__name__} that was never run: declare it with `async def`")
    return Delivered()


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
