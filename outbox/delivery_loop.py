"""The delivery loop: takes the claims of one delivery task in windows, sends, and settles what came of it in groups.

Rows are taken only when their send is about to begin. Each settle travels with the next take in one transaction, so a process
that cannot record what it did begins nothing new.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from outbox import checkpoints, transacting
from outbox.batching import Batch
from outbox.channels.base import Channel
from outbox.delivery_report import DeliveryReport
from outbox.gatekeeping import WHOLE_CHANNEL, Gatekeeper, RecentHealth
from outbox.inbox import Inbox
from outbox.judging import judge
from outbox.leases import Leases
from outbox.lifecycle import Status
from outbox.line import Line
from outbox.message import Claim, Message
from outbox.outcome import Delivered, Outcome, Unknown
from outbox.recording import Recorder
from outbox.senders import Senders
from outbox.sending import NOT_BEGUN, Job
from outbox.slots import ASK_EVERY_S, Patience, Slot
from outbox.store.protocol import Store
from outbox.telemetry import TakeRefused, Telemetry
from outbox.trains import couple
from outbox.under_way import UnderWay
from outbox.unwritten import Unwritten

_DEAF_S = 2.0
"""A loop that has not come round for so long hangs on its database: nothing more is given to it."""


@dataclass(frozen=True, slots=True)
class ProcessMeans:
    """What the delivery loops of one process share."""

    store: Store
    recorder: Recorder
    senders: Senders
    telemetry: Telemetry
    owner: str
    """The process's name, under which it holds leases."""


class DeliveryLoop:
    """One run. A claim stands in the line; then it is a job under way; then ended; then recorded.

    One thread at a time runs it: that of the task and, if it steps aside, a thread that takes it over.
    """

    def __init__(
        self, means: ProcessMeans, channel: Channel, batch: Batch, health: RecentHealth, *, stop_at: float,
        should_stop: Callable[[], bool], room: Callable[[], int] | None = None,
    ) -> None:  # fmt: skip
        """``room`` tells how many sends more the process may begin for the channel; ``None``: only this loop counts."""
        self.channel = channel
        self.report = DeliveryReport()
        self.waiting = len(batch.claims)
        """How many claims stood in its line when it last came round."""
        self._means = means
        self._gatekeeper = Gatekeeper(means.store, means.recorder, channel, health, watched=batch.watched)
        self._leases = Leases(means.store, means.recorder, channel, means.owner)
        self._capped = batch.capped
        self._stop_at = stop_at
        self._should_stop = should_stop
        self._stopping = WHOLE_CHANNEL in self._gatekeeper.closed
        self._room = room
        self._inbox = Inbox(batch.claims)
        self._batches = 0
        self._line = Line(key_window=channel.key_window)
        self._under_way = UnderWay(channel, means.senders)
        self._unwritten = Unwritten()
        self._came_round_at = time.monotonic()
        self._patience = Patience(None)
        self._wake: Callable[[], None] | None = None
        self._failure: Exception | None = None

    def run(self, slot: Slot | None = None) -> bool:
        """Go on until all is on record, or until somebody waits for the slot; whether all is.

        Raises what the database refused a take or a settle with.
        """
        self._patience = Patience(slot)
        steps_aside = False
        try:
            while not (steps_aside or self._is_over()):
                self._come_round()
                steps_aside = self._is_slot_wanted()
        finally:
            if not steps_aside:
                self._leave()
        if self._failure is not None:
            raise self._failure
        return not steps_aside

    def step_aside(self, wake: Callable[[], None]) -> DeliveryReport:
        """Report what came of it so far; another thread is to go on, which others may join."""
        report, self.report = self.report, DeliveryReport()
        self.waiting = len(self._line)
        report.aside = self.waiting + self.under_way + len(self._unwritten)
        self._wake = wake
        return report

    @property
    def is_aside(self) -> bool:
        return self._wake is not None

    @property
    def under_way(self) -> int:
        """How many sends have begun and not ended."""
        return len(self._under_way)

    def is_slow(self, seconds: float) -> bool:
        """Whether one of its sends takes so long already."""
        return self._under_way.any_slow(seconds)

    @property
    def longest_lease_s(self) -> float:
        """For how long it may hold a row."""
        return self._leases.longest_s

    def join(self, batch: Batch, stop_at: float) -> bool:
        """Deliver these too, until ``stop_at``; false where it is too late. May be called from another thread."""

        def admit() -> bool:
            if self._stopping or time.monotonic() - self._came_round_at > _DEAF_S:
                return False
            self._stop_at = max(self._stop_at, stop_at)
            self._capped |= batch.capped
            self._gatekeeper.watched |= batch.watched
            self._gatekeeper.begin_anew()
            return True

        return self._inbox.put_claims(batch.claims, admit)

    def stop(self) -> None:
        """Begin nothing new. May be called from another thread."""
        self._stopping = True

    def _is_over(self) -> bool:
        for claims in self._inbox.claims():
            self._line_up(claims)
        if self._line.ready or self._under_way or self._unwritten or not self._inbox.close_unless_claims():
            return False
        self.report.freed = self._capped
        return True

    def _is_slot_wanted(self) -> bool:
        if not self._may_ask() or not self._patience.is_over(self.is_slow):
            return False
        checkpoints.reach("task", "aside")
        return True

    def _may_ask(self) -> bool:
        """Whether the slot may be given up: there is something to go on with, and the worker does not end."""
        return bool(self._under_way or self._line.ready) and not self._should_stop()

    def _line_up(self, claims: Sequence[Claim]) -> None:
        """Claims from another task, without second copies of those that are here. Their keys are of that task alone."""
        self._batches += 1
        here = {claim.id: claim.lease for claim in self._line} | {
            job.message.id: job.message.lease - 1 for job in self._under_way
        }
        self._line.keep_keys_of(here)
        for claim in claims:
            if here.get(claim.id, -1) >= claim.lease:
                continue
            key = claim.ordering_key
            self._line.add(claim if key is None else replace(claim, ordering_key=f"{self._batches}.{key}"))

    def _come_round(self) -> None:
        self._came_round_at = time.monotonic()
        self.waiting = len(self._line)
        if self._is_time_to_end():
            self._give_back_the_rest()
        if self._is_time_to_write():
            self._write()
        if self._under_way:
            self._await_answers()
            self._abandon(self._under_way.look_after())
            self._leave_to_others(self._leases.extend_when_due(job.message for job in self._under_way))
        elif self._line.ready and not self._free_slots():
            self._inbox.wait(1, ASK_EVERY_S)  # for the channel's other loops to have room

    def _is_time_to_end(self) -> bool:
        if self._should_stop():
            self.stop()
        return self._stopping or time.monotonic() >= self._stop_at

    def _is_time_to_write(self) -> bool:
        """Write when slots would otherwise idle, a group is full or old, or nothing is under way."""
        wanted = self._wanted_slots()
        return not self._under_way or bool(wanted and self._free_slots() >= wanted) or self._unwritten.is_due

    def _wanted_slots(self) -> int:
        """How many free slots are worth a transaction: all where sends are quick, else half; none where nothing is ready."""
        slots = self.channel.concurrency
        return min(self._line.ready, slots if self._under_way.any_quick else (slots + 1) // 2)

    def _free_slots(self) -> int:
        free = self.channel.concurrency - len(self._under_way)
        return max(0, free if self._room is None else min(free, self._room()))

    def _write(self) -> None:
        """Record what has ended and take what begins next, in one transaction; only then the writes that can wait."""
        window = self._line.take_up(self._free_slots())
        ended = self._unwritten.take_ended()
        if window or ended:
            recorded = self._means.recorder.record_and_take(ended, window, self._leases.taker)
            self.report.count([end.settlement for end in ended if end.settlement.id in recorded.ids])
            self.report.unblocked |= recorded.unblocked
            if recorded.failure is None:
                self._begin(window, recorded.taken, recorded.before_take)
            else:
                self._failure = recorded.failure
                self.stop()
                self._unwritten.give_back(window)
        if unstarted := self._unwritten.take_unstarted():
            self.report.released += len(unstarted)
            self._release(unstarted)
        if self._wake is not None and self.report.unblocked:
            self.report.unblocked = False
            self._wake()
        self._gatekeeper.write()
        if WHOLE_CHANNEL in self._gatekeeper.closed:
            self.stop()
        self._withdraw(self._shut_out(self._under_way))

    def _begin(self, window: Sequence[Claim], taken: Sequence[Message], before_take: float) -> None:
        begin_by = before_take + self.longest_lease_s - self.channel.timeout
        transact = partial(transacting.transact, self._means.store) if self.channel.transactional else None
        tracing = self._means.telemetry.tracing
        jobs = [Job(self.channel, message, begin_by, self._done, transact, tracing) for message in taken]
        self._under_way.add(jobs)
        if len(taken) < len(window):
            self._leave_out({claim.id for claim in window} - {message.id for message in taken})
        trains = couple(window, jobs)
        if self._is_time_to_end():  # by now: the take may have waited for a database that is locked
            self._give_back_the_rest()
            return
        if shut_out := self._shut_out(jobs):
            self._withdraw(shut_out)
            trains = [train for train in trains if train[0] in self._under_way]
            if not trains:
                self.stop()  # the rest will be theirs too; the next claim knows whom to leave out
        if trains:
            self._under_way.start(trains)

    def _shut_out(self, jobs: Iterable[Job]) -> list[Job]:
        """Those of targets whose breaker has opened meanwhile."""
        closed = self._gatekeeper.closed
        return [job for job in jobs if job.message.target in closed] if closed else []

    def _leave_out(self, refused: Collection[str]) -> None:
        """Those that were not admitted are somebody else's, and what waits behind them is not for this task."""
        self.report.refused += len(refused)
        self._means.telemetry.emit(TakeRefused(self.channel.name, len(refused)))
        self._unwritten.give_back(behind for message_id in refused for behind in self._line.leave_behind(message_id))

    def _done(self, job: Job, outcome: Outcome | None) -> None:
        checkpoints.reach("send", "after")
        if not self._inbox.put_answer(job, outcome):
            self._hear_late(job, outcome)

    def _hear_late(self, job: Job, outcome: Outcome | None) -> None:
        """The task is over. The outcome stands as unknown, which only a success can better, or not at all."""
        if job in self._under_way or isinstance(outcome, Delivered):
            self._means.recorder.record_late([judge(job, outcome)])

    def _leave(self) -> None:
        """After this, outcomes come late: a send that never returned in time, or all those of a task that was interrupted."""
        self._inbox.close()
        for job, outcome in self._inbox.answers():
            self._hear_late(job, outcome)
        for job in [job for job in self._under_way if job.give_up()]:
            self._under_way.discard(job)
            self._unwritten.add(judge(job, NOT_BEGUN))
        if ended := self._unwritten.take_ended():
            self._means.recorder.record(ended)
        claims = (claim for claims in self._inbox.claims() for claim in claims)
        if left := [*self._unwritten.take_unstarted(), *self._line.leave(), *claims]:
            self._release(left)

    def _release(self, claims: Sequence[Claim]) -> None:
        self._means.recorder.attempt(self.channel.name, lambda: self._means.store.release(claims))

    def _await_answers(self) -> None:
        """Wait until enough answers have come or something else is due, then take in all there are.

        Each wait that ends costs the sends a moment, because threads compute in turns: so it ends for the first answer, from
        which the age of a group counts, and then for as many as make it time to write.
        """
        enough = self._answers_to_write() if self._unwritten else 1
        self._inbox.wait(enough, max(0.001, min(self._moments()) - time.monotonic()))
        for job, outcome in self._inbox.answers():
            self._take_in(job, outcome)

    def _answers_to_write(self) -> int:
        """How many make it time to write."""
        wanted = self._wanted_slots()
        count = wanted - self._free_slots() if wanted else len(self._under_way)
        return max(1, min(count, self._unwritten.room))

    def _moments(self) -> Iterator[float]:
        """When to look again, whatever answers come."""
        yield self._under_way.look_at
        yield self._leases.extend_at
        if self._may_ask():
            yield self._patience.ask_at
        if self._unwritten:
            yield self._unwritten.due_at

    def _take_in(self, job: Job, outcome: Outcome | None) -> None:
        abandoned = job not in self._under_way
        if abandoned and not isinstance(outcome, Delivered):
            return  # its outcome is on record as unknown; only a success is better evidence
        self._end(job, outcome)

    def _end(self, job: Job, outcome: Outcome | None) -> None:
        self._under_way.discard(job)
        ended = judge(job, outcome)
        self._unwritten.add(ended)
        if not self._gatekeeper.hear(job.message, outcome):
            self.stop()
        if ended.settlement.verdict.status is Status.DELIVERED:
            if job is job.train[-1]:
                self._line.follow(job.message.id)
        else:
            self._unwritten.give_back(self._line.leave_behind(job.message.id))
            self._withdraw(job.behind)

    def _withdraw(self, jobs: Iterable[Job]) -> list[Job]:
        """Give back those that have not begun, and what waits behind them; returns those that have."""
        begun: list[Job] = []
        for job in jobs:
            if job in self._under_way:
                if job.give_up():
                    self._end(job, NOT_BEGUN)
                else:
                    begun.append(job)
        return begun

    def _abandon(self, overdue: Iterable[Job]) -> None:
        """A send that outlives its timeout is unknown, and its thread may be lost: what has not begun goes to other workers."""
        for job in overdue:
            self.stop()
            if job.give_up():
                self._end(job, NOT_BEGUN)
            else:
                self._end(job, Unknown(f"the send did not return within {self.channel.timeout:g} s"))
                self._means.senders.leave_blocked_loop()

    def _leave_to_others(self, message_ids: Collection[str]) -> None:
        """A row whose heartbeat missed is somebody else's: no further I/O for it."""
        if message_ids:
            for job in self._withdraw([job for job in self._under_way if job.message.id in message_ids]):
                job.cancel()

    def _give_back_the_rest(self) -> None:
        """Release what has not begun: claims in the line, and jobs that still wait for their thread."""
        self._unwritten.give_back(self._line.leave())
        self._withdraw(list(self._under_way))
