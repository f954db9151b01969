"""The delivery loop: takes the claims of one delivery task in windows, sends, and settles what came of it in groups.

Rows are taken only when their send is about to begin. Each settle travels with the next take in one transaction, so a process
that cannot record what it did begins nothing new.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from outbox import checkpoints, transacting
from outbox.channels.base import Channel
from outbox.crew import QUICK_S, Run
from outbox.gatekeeping import WHOLE_CHANNEL, Gatekeeper, RecentHealth
from outbox.inbox import Inbox
from outbox.judging import judge
from outbox.lifecycle import Status
from outbox.line import Line
from outbox.message import Claim, Message
from outbox.outcome import Delivered, Outcome, Unknown
from outbox.policy.retry import RELEASED
from outbox.recording import Ended, Recorder
from outbox.senders import Senders
from outbox.sending import NOT_BEGUN, Job
from outbox.slots import ASK_EVERY_S, Patience, Slot
from outbox.store.protocol import Store
from outbox.store.records import Taker
from outbox.telemetry import TakeRefused, Telemetry
from outbox.trains import couple

LEASE_MARGIN_S = 10.0
"""Beyond the timeout: twice SQLite's busy timeout, so that a settle which waits for the write lock still comes in time."""
LONGEST_UNEXTENDED_LEASE_S = 60.0
"""A longer timeout is held by heartbeats, so that a dead worker is found after a minute and not after the whole timeout."""
GROUP_SIZE = 100
GROUP_AGE_S = 0.025
_LONGEST_WAIT_S = 0.25
_DEAF_S = 2.0
"""A loop that has not come round for so long hangs on its database: nothing more is given to it."""


@dataclass(slots=True)
class DeliveryReport:
    """What one delivery task came to."""

    statuses: Counter[str] = field(default_factory=Counter)
    """Attempts by the status that their row got."""
    refused: int = 0
    """Claims that were not admitted at take."""
    released: int = 0
    """Rows given back unstarted."""
    aside: int = 0
    """Claims that go on in the process while the task itself is over."""
    unblocked: bool = False
    """Whether rows that waited behind one of these became due."""
    freed: bool = False
    """Whether the channel's allowance was used up, and these have left it."""

    @property
    def made_due(self) -> bool:
        """Whether rows are due that were not before."""
        return self.unblocked or self.released > 0

    @property
    def leaves_work(self) -> bool:
        """Whether more may be due than was before."""
        return self.made_due or self.freed


class DeliveryLoop:
    """One run. A claim stands in the line; then it is a job under way; then ended; then recorded.

    One thread at a time runs it: that of the task and, if it steps aside, a thread that takes it over.
    """

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        senders: Senders,
        telemetry: Telemetry,
        channel: Channel,
        claims: Sequence[Claim],
        health: RecentHealth,
        *,
        owner: str,
        stop_at: float,
        should_stop: Callable[[], bool],
        capped: bool,
        watched: bool,
        room: Callable[[], int] | None = None,
    ) -> None:
        """``room`` tells how many sends more the process may begin for the channel; ``None``: only this loop counts."""
        self.channel = channel
        self.report = DeliveryReport()
        self.waiting = len(claims)
        """How many claims stood in its line when it last came round."""
        self.longest_lease_s = channel.timeout + LEASE_MARGIN_S
        self._gatekeeper = Gatekeeper(store, recorder, channel, health, watched=watched)
        self._store = store
        self._recorder = recorder
        self._senders = senders
        self._telemetry = telemetry
        self._stop_at = stop_at
        self._should_stop = should_stop
        self._stopping = WHOLE_CHANNEL in self._gatekeeper.closed
        self._room = room
        self._line = Line(key_window=channel.key_window)
        self._under_way: set[Job] = set()
        self._runs: list[Run] = []
        self._inbox = Inbox(claims)
        self._ended: list[Ended] = []
        self._unstarted: list[Claim] = []
        self._unwritten_since = 0.0
        self._lease_s = min(self.longest_lease_s, LONGEST_UNEXTENDED_LEASE_S)
        self._taker = Taker(channel.name, owner, round(self._lease_s * 1000))
        self._extend_at = time.monotonic() + self._lease_s / 3
        self._look_at = time.monotonic() + _LONGEST_WAIT_S
        self._capped = capped
        self._batches = 0
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
        report.aside = self.waiting + self.under_way + len(self._ended)
        self._wake = wake
        return report

    @property
    def is_aside(self) -> bool:
        return self._wake is not None

    @property
    def under_way(self) -> int:
        """How many sends have begun and not ended."""
        return len(self._under_way)

    def join(self, claims: Sequence[Claim], *, stop_at: float, capped: bool, watched: bool) -> bool:
        """Deliver these too, until ``stop_at``; false where it is too late. May be called from another thread."""

        def admit() -> bool:
            if self._stopping or time.monotonic() - self._came_round_at > _DEAF_S:
                return False
            self._stop_at = max(self._stop_at, stop_at)
            self._capped |= capped
            self._gatekeeper.watched |= watched
            self._gatekeeper.begin_anew()
            return True

        return self._inbox.put_claims(claims, admit)

    def stop(self) -> None:
        """Begin nothing new. May be called from another thread."""
        self._stopping = True

    def _is_over(self) -> bool:
        for claims in self._inbox.claims():
            self._line_up(claims)
        if self._line.ready or self._under_way or self._has_unwritten() or not self._inbox.close_unless_claims():
            return False
        self.report.freed = self._capped
        return True

    def _is_slot_wanted(self) -> bool:
        if not self._may_ask() or not self._patience.is_over(self.is_slow):
            return False
        checkpoints.reach("task", "aside")
        return True

    def is_slow(self, seconds: float) -> bool:
        """Whether one of its sends has been under way for so long."""
        return any(job.duration_ms >= seconds * 1000 for job in self._under_way)

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
        if self._should_stop():
            self.stop()
        if self._stopping or time.monotonic() >= self._stop_at:
            self._give_back_the_rest()
        if self._is_time_to_write():
            self._write()
        if self._under_way:
            self._await_answers()
            self._look_after_sends()
            self._extend_leases()
        elif self._line.ready and not self._free_slots():
            self._inbox.wait(1, ASK_EVERY_S)  # for the channel's other loops to have room

    def _has_unwritten(self) -> bool:
        return bool(self._ended or self._unstarted or self._gatekeeper.has_news())

    def _is_time_to_write(self) -> bool:
        """Write when slots would otherwise idle, a group is full or old, or nothing is under way."""
        wanted = self._wanted_slots()
        if not self._under_way or (wanted and self._free_slots() >= wanted) or len(self._ended) >= GROUP_SIZE:
            return True
        return self._has_unwritten() and time.monotonic() - self._unwritten_since >= GROUP_AGE_S

    def _wanted_slots(self) -> int:
        """How many free slots are worth a transaction: all where sends are quick, else half; none where nothing is ready."""
        slots = self.channel.concurrency
        return min(self._line.ready, slots if any(run.is_quick for run in self._runs) else (slots + 1) // 2)

    def _free_slots(self) -> int:
        free = self.channel.concurrency - len(self._under_way)
        return max(0, free if self._room is None else min(free, self._room()))

    def _write(self) -> None:
        """Record what has ended and take what begins next, in one transaction; only then the writes that can wait."""
        window = self._line.take_up(self._free_slots())
        ended, self._ended = self._ended, []
        if window or ended:
            recorded = self._recorder.record_and_take(ended, window, self._taker)
            self._count(ended, recorded.ids)
            self.report.unblocked |= recorded.unblocked
            if recorded.failure is None:
                self._begin(window, recorded.taken, recorded.before_take)
            else:
                self._failure = recorded.failure
                self.stop()
                self._give_back(window)
        unstarted, self._unstarted = self._unstarted, []
        if unstarted:
            self.report.released += len(unstarted)
            self._recorder.attempt(self.channel.name, lambda: self._store.release(unstarted))
        if self._wake is not None and self.report.unblocked:
            self.report.unblocked = False
            self._wake()
        self._gatekeeper.write()
        if WHOLE_CHANNEL in self._gatekeeper.closed:
            self.stop()
        self._withdraw(self._shut_out(self._under_way))

    def _count(self, ended: Sequence[Ended], recorded: frozenset[str]) -> None:
        for settlement in (end.settlement for end in ended if end.settlement.id in recorded):
            if settlement.outcome == RELEASED:
                self.report.released += 1
            else:
                self.report.statuses[settlement.verdict.status] += 1

    def _begin(self, window: Sequence[Claim], taken: Sequence[Message], before_take: float) -> None:
        begin_by = before_take + self.longest_lease_s - self.channel.timeout
        transact = partial(transacting.transact, self._store) if self.channel.transactional else None
        tracing = self._telemetry.tracing
        jobs = [Job(self.channel, message, begin_by, self._done, transact, tracing) for message in taken]
        self._under_way.update(jobs)
        if len(taken) < len(window):
            self._leave_out({claim.id for claim in window} - {message.id for message in taken})
        trains = couple(window, jobs)
        if shut_out := self._shut_out(jobs):
            self._withdraw(shut_out)
            trains = [train for train in trains if train[0] in self._under_way]
            if not trains:
                self.stop()  # the rest will be theirs too; the next claim knows whom to leave out
        if trains:
            self._runs = [*filter(len, self._runs), self._senders.start(self.channel, trains)]
            self._look_at = min(self._look_at, time.monotonic() + QUICK_S)

    def _shut_out(self, jobs: Iterable[Job]) -> list[Job]:
        """Those of targets whose breaker has opened meanwhile."""
        closed = self._gatekeeper.closed
        return [job for job in jobs if job.message.target in closed] if closed else []

    def _leave_out(self, refused: Collection[str]) -> None:
        """Those that were not admitted are somebody else's, and what waits behind them is not for this task."""
        self.report.refused += len(refused)
        self._telemetry.emit(TakeRefused(self.channel.name, len(refused)))
        self._give_back(behind for message_id in refused for behind in self._line.leave_behind(message_id))

    def _done(self, job: Job, outcome: Outcome | None) -> None:
        checkpoints.reach("send", "after")
        if not self._inbox.put_answer(job, outcome):
            self._hear_late(job, outcome)

    def _hear_late(self, job: Job, outcome: Outcome | None) -> None:
        """The task is over. The outcome stands as unknown, which only a success can better, or not at all."""
        if job in self._under_way or isinstance(outcome, Delivered):
            self._recorder.record_late([judge(job, outcome)])

    def _leave(self) -> None:
        """After this, outcomes come late: a send that never returned in time, or all those of a task that was interrupted."""
        self._inbox.close()
        for job, outcome in self._inbox.answers():
            self._hear_late(job, outcome)
        for job in [job for job in self._under_way if job.give_up()]:
            self._under_way.remove(job)
            self._ended.append(judge(job, NOT_BEGUN))
        if self._ended:
            self._recorder.record(self._ended)
        left = [*self._line.leave(), *(claim for claims in self._inbox.claims() for claim in claims)]
        if left:
            self._recorder.attempt(self.channel.name, lambda: self._store.release(left))

    def _await_answers(self) -> None:
        """Wait until enough answers have come or something else is due, then take in all there are.

        Each wait that ends costs the sends a moment, because threads compute in turns: so it ends for the first answer, from
        which the age of a group counts, and then for as many as make it time to write.
        """
        enough = self._answers_to_write() if self._has_unwritten() else 1
        self._inbox.wait(enough, max(0.001, min(self._moments()) - time.monotonic()))
        for job, outcome in self._inbox.answers():
            self._take_in(job, outcome)

    def _answers_to_write(self) -> int:
        """How many make it time to write."""
        wanted = self._wanted_slots()
        count = wanted - self._free_slots() if wanted else len(self._under_way)
        return max(1, min(count, GROUP_SIZE - len(self._ended)))

    def _moments(self) -> Iterator[float]:
        """When to look again, whatever answers come."""
        yield self._look_at
        yield self._extend_at
        if self._may_ask():
            yield self._patience.ask_at
        if self._has_unwritten():
            yield self._unwritten_since + GROUP_AGE_S

    def _take_in(self, job: Job, outcome: Outcome | None) -> None:
        abandoned = job not in self._under_way
        if abandoned and not isinstance(outcome, Delivered):
            return  # its outcome is on record as unknown; only a success is better evidence
        self._end(job, outcome)

    def _end(self, job: Job, outcome: Outcome | None) -> None:
        self._under_way.discard(job)
        self._await_write()
        ended = judge(job, outcome)
        self._ended.append(ended)
        if not self._gatekeeper.hear(job.message, outcome):
            self.stop()
        if ended.settlement.verdict.status is Status.DELIVERED:
            if job is job.train[-1]:
                self._line.follow(job.message.id)
        else:
            self._give_back(self._line.leave_behind(job.message.id))
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

    def _look_after_sends(self) -> None:
        """Help trains that wait for a thread behind a slow send, and give up sends that do not return."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + (QUICK_S if any(self._runs) else _LONGEST_WAIT_S)
        for run in self._runs:
            if run.has_stalled():
                self._senders.help(run)
        self._abandon_overdue()

    def _abandon_overdue(self) -> None:
        """A send that outlives its timeout is unknown, and its thread may be lost: what has not begun goes to other workers."""
        for job in [job for job in self._under_way if job.is_overdue() and job.before not in self._under_way]:
            self.stop()
            if job.give_up():
                self._end(job, NOT_BEGUN)
            else:
                self._end(job, Unknown(f"the send did not return within {self.channel.timeout:g} s"))
                self._senders.leave_blocked_loop()

    def _extend_leases(self) -> None:
        now = time.monotonic()
        if now < self._extend_at:
            return
        self._extend_at = now + self._lease_s / 3
        if self._lease_s == self.longest_lease_s or not self._under_way:
            return
        held = [job.message for job in self._under_way]
        longest_ms, lease_ms = round(self.longest_lease_s * 1000), self._taker.run_lease_ms
        self._recorder.attempt(
            self.channel.name,
            lambda: self._forbid(held, self._store.extend(held, run_lease_ms=lease_ms, longest_ms=longest_ms)),
        )

    def _forbid(self, held: Sequence[Message], still_held: set[str]) -> None:
        """A row whose heartbeat missed is somebody else's: no further I/O for it."""
        lost = {message.id for message in held} - still_held
        for job in self._withdraw([job for job in self._under_way if job.message.id in lost]):
            job.cancel()

    def _give_back_the_rest(self) -> None:
        """Release what has not begun: claims in the line, and jobs that still wait for their thread."""
        self._give_back(self._line.leave())
        self._withdraw(list(self._under_way))

    def _give_back(self, claims: Iterable[Claim]) -> None:
        unstarted = list(claims)
        if unstarted:
            self._await_write()
            self._unstarted += unstarted

    def _await_write(self) -> None:
        if not self._has_unwritten():
            self._unwritten_since = time.monotonic()
