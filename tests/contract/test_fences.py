"""The two fences: a stale take does nothing before any I/O, and an outcome is recorded by whoever holds the lease."""

from collections.abc import Callable

import pytest

from outbox.lifecycle import REPLAYABLE, TERMINAL, Status
from outbox.message import Claim
from outbox.policy.retry import Verdict
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DEFERRED,
    DELIVERED,
    MINUTE,
    PARKED,
    RESCUED,
    RETRY,
    RUN_LEASE_MS,
    SECOND,
    WITHHELD,
    begin,
    begin_again,
    cancel,
    claim,
    end_as,
    enqueue_named,
    ids,
    replay,
    rescue,
    settle,
    settlement,
    stored,
    take,
)

FAILURES = [RETRY, DEAD, PARKED, WITHHELD, DEFERRED]

Overtake = Callable[[SQLStore, FakeClock], None]


def test_a_broker_duplicate_is_taken_once(store: SQLStore) -> None:
    enqueue_named(store, "m")
    copy = claim(store)
    assert ids(take(store, copy)) == ["m"]
    assert take(store, copy) == []
    assert stored(store, "m").attempt_count == 1


def test_a_broker_duplicate_within_one_task_is_taken_once(store: SQLStore) -> None:
    enqueue_named(store, "m")
    assert ids(take(store, claim(store) * 3)) == ["m"]
    assert stored(store, "m").attempt_count == 1


def test_a_duplicate_of_a_delivered_message_changes_nothing(store: SQLStore) -> None:
    enqueue_named(store, "m")
    copy = claim(store)
    settle(store, *take(store, copy), DELIVERED)
    before = stored(store, "m").columns
    assert take(store, copy) == []
    assert stored(store, "m").columns == before


@pytest.mark.parametrize("first", [0, 1])
def test_of_a_message_and_its_redispatched_copy_the_first_to_arrive_wins(store: SQLStore, clock: FakeClock, first: int) -> None:
    enqueue_named(store, "m")
    early = claim(store)
    clock.advance(MINUTE + 1)
    late = store.redispatch(CHANNEL, 100)
    copies = [early, late]
    assert ids(take(store, copies[first])) == ["m"]
    assert take(store, copies[1 - first]) == []


def test_a_copy_of_an_earlier_attempt_is_not_taken(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m")
    stale = claim(store)
    settle(store, *take(store, stale), RETRY)
    clock.advance(5 * SECOND)
    fresh = claim(store)
    assert take(store, stale) == []
    assert ids(take(store, fresh)) == ["m"]


def test_a_copy_from_before_a_postponement_is_not_taken(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", target="down")
    copy = claim(store)
    store.release(copy)
    claim(store, closed={"down": stored(store, "m").next_attempt_at + MINUTE})
    assert take(store, copy) == []
    clock.advance(MINUTE)
    fresh = claim(store)
    assert take(store, copy) == []
    assert ids(take(store, fresh)) == ["m"]


def test_a_copy_from_before_a_replay_is_not_taken(store: SQLStore) -> None:
    enqueue_named(store, "m")
    copy = claim(store)
    cancel(store, "m")
    replay(store, "m")
    assert take(store, copy) == []
    assert ids(take(store, claim(store))) == ["m"]


@pytest.mark.parametrize("status", sorted(TERMINAL | {Status.PARKED}))
def test_a_row_that_is_terminal_or_parked_is_not_taken_whatever_lease_is_shown(store: SQLStore, status: Status) -> None:
    end_as(store, "m", status)
    assert take(store, [Claim("m", lease) for lease in range(5)]) == []
    assert stored(store, "m").status == status


def test_a_future_row_that_was_released_is_not_taken_before_its_moment(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", delay_ms=SECOND)
    assert take(store, [Claim("m", 0)]) == []
    clock.advance(SECOND)
    assert ids(take(store, [Claim("m", 0)])) == ["m"]


@pytest.mark.proves("R4")
def test_invariant_3_an_outcome_of_an_unknown_id_is_lost(store: SQLStore) -> None:
    message = begin(store, "m")
    with store.transaction() as tx:
        tx.connection.execute(store.tables.messages.delete())
    for verdict in (DELIVERED, *FAILURES):
        assert settle(store, message, verdict).lost == {"m"}


@pytest.mark.proves("T5", "R4")
@pytest.mark.parametrize("first", [DELIVERED, *FAILURES])
def test_t5_an_outcome_is_recorded_once_and_only_a_success_may_correct_a_failure(store: SQLStore, first: Verdict) -> None:
    message = begin(store, "m")
    settle(store, message, first)
    for late in FAILURES:
        assert settle(store, message, late).lost == {"m"}
        assert stored(store, "m").status == first.status
    may_correct = first is not DELIVERED and first.charged
    assert settle(store, message, DELIVERED).recorded == ({"m"} if may_correct else set())


def rescued(store: SQLStore, clock: FakeClock) -> None:
    clock.advance(RUN_LEASE_MS + 1)
    assert rescue(store) == 1


def rescued_and_parked(store: SQLStore, clock: FakeClock) -> None:
    clock.advance(RUN_LEASE_MS + 1)
    assert rescue(store, PARKED) == 1


def rescued_and_dead(store: SQLStore, clock: FakeClock) -> None:
    clock.advance(RUN_LEASE_MS + 1)
    assert rescue(store, DEAD) == 1


def rescued_and_expired(store: SQLStore, clock: FakeClock) -> None:
    rescued(store, clock)
    clock.advance(10 * MINUTE)
    assert store.expire(100) == 1


def rescued_and_cancelled(store: SQLStore, clock: FakeClock) -> None:
    rescued(store, clock)
    assert cancel(store, "m").changed == ["m"]


def rescued_and_claimed_but_not_taken(store: SQLStore, clock: FakeClock) -> None:
    rescued(store, clock)
    clock.advance(5 * SECOND)
    assert ids(claim(store)) == ["m"]


OVERTAKEN = [
    rescued,
    rescued_and_parked,
    rescued_and_dead,
    rescued_and_expired,
    rescued_and_cancelled,
    rescued_and_claimed_but_not_taken,
]


@pytest.mark.proves("T13")
@pytest.mark.parametrize("overtaken", OVERTAKEN)
def test_invariant_9_a_late_success_of_the_attempt_that_holds_the_lease_saves_a_duplicate(
    store: SQLStore, clock: FakeClock, overtaken: Overtake
) -> None:
    message = begin(store, "m", ttl_ms=10 * MINUTE)
    overtaken(store, clock)
    assert settle(store, message, DELIVERED, receipt='"ok"').recorded == {"m"}
    row = stored(store, "m")
    assert (row.status, row.receipt, row.lease, row.attempt_count) == ("delivered", '"ok"', 1, 1)
    assert (row.delivered_at, row.completed_at, row.lease_until) == (clock.now, clock.now, None)
    assert row.terminal_reason
    assert take(store, [Claim("m", 1)]) == []
    assert store.violations(10) == []


@pytest.mark.proves("T5")
@pytest.mark.parametrize("overtaken", OVERTAKEN)
def test_t5_a_late_failure_is_dropped_and_counted_and_changes_nothing(
    store: SQLStore, clock: FakeClock, overtaken: Overtake
) -> None:
    message = begin(store, "m", ttl_ms=10 * MINUTE)
    overtaken(store, clock)
    before, log = stored(store, "m").columns, store.attempts("m")
    for verdict in FAILURES:
        assert settle(store, message, verdict).lost == {"m"}
    assert (stored(store, "m").columns, store.attempts("m")) == (before, log)


def test_an_attempt_whose_row_was_taken_since_records_nothing(store: SQLStore, clock: FakeClock) -> None:
    stale = begin(store, "m")
    rescued(store, clock)
    clock.advance(5 * SECOND)
    fresh = begin_again(store, "m")
    before = stored(store, "m").columns
    for verdict in (DELIVERED, *FAILURES):
        assert settle(store, stale, verdict).lost == {"m"}
        assert stored(store, "m").columns == before
    assert settle(store, fresh, DELIVERED).recorded == {"m"}


@pytest.mark.parametrize("status", sorted(REPLAYABLE))
def test_an_attempt_from_before_a_replay_records_nothing(store: SQLStore, status: Status) -> None:
    stale = end_as(store, "m", status)
    replay(store, "m")
    for verdict in (DELIVERED, *FAILURES):
        assert settle(store, stale, verdict).lost == {"m"}
    assert stored(store, "m").status == "queued"


def test_a_late_success_says_what_it_overtook(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    rescued_and_cancelled(store, clock)
    settle(store, message, DELIVERED)
    assert stored(store, "m").terminal_reason == "sent before the cancel"


def test_a_late_success_corrects_the_line_that_the_rescue_wrote(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    rescued(store, clock)
    clock.advance(SECOND)
    settle(store, message, DELIVERED, outcome="delivered")
    (line,) = store.attempts("m")
    assert (line.lease, line.outcome, line.finished_at) == (1, "delivered", clock.now)


@pytest.mark.parametrize("verdict", [DELIVERED, *FAILURES])
def test_an_outcome_that_comes_twice_in_one_group_is_recorded_once(store: SQLStore, verdict: Verdict) -> None:
    message = begin(store, "m")
    twice = [settlement(message, verdict)] * 2
    settled = store.settle(twice)
    assert (settled.recorded, settled.lost) == ({"m"}, set())
    assert (stored(store, "m").status, len(store.attempts("m"))) == (verdict.status, int(verdict in (RETRY, DEAD, PARKED)))


def test_two_attempts_of_one_row_in_one_group_are_told_apart(store: SQLStore, clock: FakeClock) -> None:
    stale = begin(store, "m")
    rescued(store, clock)
    clock.advance(5 * SECOND)
    fresh = begin_again(store, "m")
    store.settle([settlement(stale, DEAD, outcome="stale"), settlement(fresh, RETRY, outcome="fresh")])
    assert [line.outcome for line in store.attempts("m")] == ["rescued", "fresh"]
    assert stored(store, "m").status == "failed_retryable"


@pytest.mark.proves("R3", "T5")
@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_invariant_9_maintenance_relay_and_stale_workers_leave_a_terminal_row_alone(
    store: SQLStore, clock: FakeClock, status: Status
) -> None:
    message = end_as(store, "m", status)
    before = stored(store, "m").columns
    clock.advance(60 * MINUTE)
    store.expire(100)
    rescue(store)
    rescue(store, owner="worker-1")
    store.mend(("", ""), 100)
    store.unfuture(1, 1, {}, 100)
    claim(store)
    store.redispatch(CHANNEL, 100)
    store.release([Claim("m", message.lease)])
    store.extend([message], run_lease_ms=RUN_LEASE_MS, longest_ms=RUN_LEASE_MS)
    cancel(store, "m")
    for verdict in FAILURES:
        settle(store, message, verdict)
    assert stored(store, "m").columns == before


def test_the_lease_only_ever_grows(store: SQLStore, clock: FakeClock) -> None:
    leases = []

    def note() -> None:
        leases.append(stored(store, "m").lease)

    message = begin(store, "m", target="down")
    note()
    settle(store, message, DEFERRED)
    note()
    clock.advance(5 * SECOND)
    claim(store, closed={"down": clock.now + SECOND})
    note()
    clock.advance(SECOND)
    settle(store, begin_again(store, "m"), RESCUED)
    note()
    cancel(store, "m")
    replay(store, "m")
    note()
    settle(store, begin_again(store, "m"), DELIVERED)
    note()
    assert leases == [1, 2, 3, 4, 5, 6]
