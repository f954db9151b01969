"""The outbox in a page of plain Python: what every verb does to a row, without SQL, locks, indexes or hints."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from outbox.lifecycle import ACTIVE, CANCELLABLE, DUE, EXPIRABLE, REPLAYABLE, TERMINAL, Status
from outbox.message import Claim
from outbox.policy.retry import Verdict
from outbox.store.claiming import CLOSED_UNTIL_RESUMED_MS, LONGEST_HORIZON_MS, SHORTEST_HORIZON_MS

WHOLE_CHANNEL = ""


@dataclass
class Row:
    """A message as far as the fences, the clocks and the order are concerned. Times are epoch milliseconds."""

    id: str
    seq: int
    key: str | None
    target: str
    is_final: bool
    ttl_ms: int | None
    due_at: int
    expires_at: int | None
    status: Status = Status.QUEUED
    lease: int = 0
    attempts: int = 0
    begun_at: int | None = None
    until: int | None = None
    owner: str | None = None
    is_unknown: bool = False
    completed_at: int | None = None


@dataclass
class Model:
    """All rows by their id, in the order of their enqueue, the pauses, and the time.

    What is postponed or hastened for a pause is not said to the row: a store leaves alone what it knows to wait for another row
    anyway. So it is told which ones were, and says whether that may be.
    """

    now: int
    rows: dict[str, Row] = field(default_factory=dict)
    pauses: dict[str, int | None] = field(default_factory=dict)
    last_seq: int = 0

    def enqueue(self, name: str, *, key: str | None, target: str, is_final: bool, delay_ms: int, ttl_ms: int | None) -> None:
        self.last_seq += 1
        due_at = self.now + delay_ms
        expires_at = None if ttl_ms is None else due_at + ttl_ms
        self.rows[name] = Row(name, self.last_seq, key, target, is_final, ttl_ms, due_at, expires_at)

    def closed(self) -> dict[str, int | None]:
        """The targets that take nothing now, or the whole channel, and until when."""
        return {target: until for target, until in self.pauses.items() if until is None or until > self.now}

    def pause(self, target: str, for_ms: int | None) -> None:
        self.pauses[target] = None if for_ms is None else self.now + for_ms

    def resume(self, target: str | None, hastened: Collection[str]) -> int:
        """Removes the pause of one target, of the channel, or all; what was put off for a target is due."""
        resumed = [each for each in self.pauses if target in (None, each)]
        for each in resumed:
            del self.pauses[each]
        put_off = [
            row for row in self.rows.values()
            if row.status in DUE and row.lease > 0 and row.due_at > self.now
            and row.target in resumed and row.target != WHOLE_CHANNEL
        ]  # fmt: skip
        self._check(hastened, put_off)
        for name in hastened:
            self.rows[name].due_at = self.now
        return len(resumed)

    def postpone(self, closed: Mapping[str, int | None], postponed: Collection[str]) -> None:
        """What a claim meets of closed targets has to wait, with a new lease: a copy from before is worth nothing."""
        self._check(postponed, [row for row in self.rows.values() if self._is_due(row) and row.target in closed])
        for name in postponed:
            row = self.rows[name]
            until = closed[row.target]
            row.due_at = self.now + CLOSED_UNTIL_RESUMED_MS if until is None else until
            row.lease += 1

    def claim(self, per_key: int, owner: str, closed: Mapping[str, int | None]) -> list[str]:
        """Everything that is due and at the head of its key, with those behind it that may travel along."""
        heads = [row for row in self.rows.values() if self._is_due(row) and self._blocker(row) is None]
        chosen = [row for head in heads for row in (head, *self._followers(head, per_key - 1, closed))]
        for row in chosen:
            row.status, row.owner, row.until = Status.DISPATCHED, owner, self.now + SHORTEST_HORIZON_MS
        return sorted(row.id for row in chosen)

    def redispatch(self, owner: str) -> list[str]:
        overdue = [row for row in self.rows.values() if row.status is Status.DISPATCHED and self._has_passed(row.until)]
        for row in overdue:
            row.owner, row.until = owner, self._horizon(row)
        return sorted(row.id for row in overdue)

    def recall(self, owner: str, within_ms: int) -> int:
        since = self.now + SHORTEST_HORIZON_MS - within_ms
        theirs = [
            row for row in self.rows.values()
            if row.status is Status.DISPATCHED and row.owner == owner and (row.until or 0) >= since and self._is_unexpired(row)
        ]  # fmt: skip
        for row in theirs:
            self._give_back(row)
        return len(theirs)

    def take(self, claim: Claim, owner: str, run_lease_ms: int) -> bool:
        row = self.rows.get(claim.id)
        if row is None or not self._may_start(row, claim.lease):
            self.release(claim)
            return False
        row.status, row.owner, row.begun_at, row.until = Status.SENDING, owner, self.now, self.now + run_lease_ms
        row.lease += 1
        row.attempts += 1
        return True

    def release(self, claim: Claim) -> bool:
        row = self.rows.get(claim.id)
        fits = row is not None and row.lease == claim.lease and row.status is Status.DISPATCHED and self._is_unexpired(row)
        if row is not None and fits:
            self._give_back(row)
        return fits

    def settle(self, name: str, lease: int, verdict: Verdict) -> bool:
        row = self.rows.get(name)
        if row is None or row.lease != lease:
            return False
        is_success = verdict.status is Status.DELIVERED
        fits = row.status is not Status.DELIVERED if is_success else row.status is Status.SENDING
        if fits:
            self._write(row, verdict)
        return fits

    def extend(self, name: str, lease: int, run_lease_ms: int, longest_ms: int) -> bool:
        row = self.rows.get(name)
        if row is None or row.lease != lease or row.status is not Status.SENDING or row.begun_at is None:
            return False
        row.until = min(self.now + run_lease_ms, row.begun_at + longest_ms)
        return True

    def expire(self) -> int:
        old = [row for row in self.rows.values() if row.status in EXPIRABLE and not self._is_unexpired(row)]
        return self._end(old, Status.EXPIRED)

    def rescue(self, final: Verdict, other: Verdict, owner: str | None) -> int:
        gone = [
            row for row in self.rows.values()
            if row.status is Status.SENDING and (self._has_passed(row.until) if owner is None else row.owner == owner)
        ]  # fmt: skip
        for row in gone:
            self._write(row, final if row.is_final else other)
        return len(gone)

    def cancel(self, name: str) -> bool:
        row = self.rows[name]
        return self._end([row] if row.status in CANCELLABLE else [], Status.CANCELLED) == 1

    def replay(self, name: str) -> bool:
        row = self.rows[name]
        if row.status not in REPLAYABLE or not row.is_final:
            return False
        row.status, row.due_at, row.until, row.completed_at = Status.QUEUED, self.now, None, None
        row.expires_at = None if row.ttl_ms is None else self.now + row.ttl_ms
        row.attempts, row.is_unknown = 0, False
        row.lease += 1
        return True

    def prune(self, status: Status, kept_ms: int) -> int:
        old = [
            row for row in self.rows.values()
            if row.status is status and row.completed_at is not None and row.completed_at < self.now - kept_ms
        ]  # fmt: skip
        for row in old:
            del self.rows[row.id]
        return len(old)

    def next_moment(self) -> int | None:
        """When the next of the clocks of a row runs out, if any does."""
        clocks = [
            moment
            for row in self.rows.values() if row.status in ACTIVE
            for moment in (row.due_at, row.expires_at, row.until) if moment is not None and moment >= self.now
        ]  # fmt: skip
        return min(clocks, default=None)

    def _give_back(self, row: Row) -> None:
        row.status, row.until = Status.FAILED_RETRYABLE if row.attempts else Status.QUEUED, None

    def _is_due(self, row: Row) -> bool:
        return row.status in DUE and row.due_at <= self.now and self._is_unexpired(row)

    def _is_unexpired(self, row: Row) -> bool:
        return row.expires_at is None or row.expires_at >= self.now

    def _has_passed(self, moment: int | None) -> bool:
        return moment is not None and moment < self.now

    def _horizon(self, row: Row) -> int:
        return self.now + min(max(self.now - row.due_at, SHORTEST_HORIZON_MS), LONGEST_HORIZON_MS)

    def _holds_back(self, row: Row) -> bool:
        """An active row holds back those behind it, unless it was never tried and is meant for the future."""
        return row.status in ACTIVE and (row.lease > 0 or row.status is not Status.QUEUED or row.due_at <= self.now)

    def _of_key(self, row: Row) -> Iterable[Row]:
        return [other for other in self.rows.values() if row.key is not None and other.key == row.key and other is not row]

    def _blocker(self, row: Row) -> Row | None:
        """Who has to be waited for: an earlier one that holds back, or any that is being sent."""
        for other in self._of_key(row):
            if other.status is Status.SENDING or (other.seq < row.seq and self._holds_back(other)):
                return other
        return None

    def _followers(self, head: Row, room: int, closed: Collection[str]) -> list[Row]:
        if head.key is None or head.is_unknown:
            return []
        behind = [row for row in self._of_key(head) if row.status in ACTIVE and row.seq > head.seq][:room]
        following: list[Row] = []
        for row in behind:
            if not self._holds_back(row):
                continue
            if not self._is_due(row) or row.is_unknown or row.target in closed:
                break
            following.append(row)
        return following

    def _check(self, met: Collection[str], meant: Collection[Row]) -> None:
        """All that were met are meant, and of those that are meant at least the ones that wait for no other row were met."""
        assert {row.id for row in meant if self._blocker(row) is None} <= set(met) <= {row.id for row in meant}

    def _may_start(self, row: Row, lease: int) -> bool:
        is_there = row.status is Status.DISPATCHED or (row.status is Status.QUEUED and row.due_at <= self.now)
        is_allowed = row.is_final or row.attempts == 0
        return row.lease == lease and is_there and is_allowed and self._is_unexpired(row) and self._blocker(row) is None

    def _write(self, row: Row, verdict: Verdict) -> None:
        row.status, row.until = verdict.status, None
        row.completed_at = self.now if verdict.status in TERMINAL else None
        if verdict.status is Status.DELIVERED:
            return
        row.due_at = self.now + verdict.delay_ms
        if not verdict.charged:
            row.lease += 1
            row.attempts -= 1
        if verdict.outcome_unknown is not None:
            row.is_unknown = verdict.outcome_unknown

    def _end(self, rows: list[Row], status: Status) -> int:
        for row in rows:
            row.status, row.completed_at, row.until = status, self.now, None
        return len(rows)
