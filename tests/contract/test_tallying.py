"""Tallies: each outcome is counted once, in the minute in which it ended, whoever counts and however often it is killed."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from outbox.lifecycle import Status
from outbox.store import tallying
from outbox.store.records import Tally
from outbox.store.sql import Transaction
from outbox.store.sqlstore import SQLStore
from outbox.store.tallying import KEPT_MS, LATE_COMMIT_MS, MINUTE_MS
from outbox.testing import FakeClock
from tests.contract.steps import (
    DEAD,
    DELIVERED,
    NOW,
    SECOND,
    begin,
    claim,
    enqueue,
    new_row,
    put,
    replay,
    settle,
    settlement,
    take,
)

MINUTE = NOW - NOW % MINUTE_MS


@pytest.fixture(autouse=True)
def at_the_beginning_of_a_minute(clock: FakeClock) -> None:
    clock.now = MINUTE


def deliver(store: SQLStore, count: int = 1, **fields: object) -> None:
    enqueue(store, *(new_row(**fields) for _ in range(count)))
    channel = str(fields.get("channel", "webhook"))
    messages = take(store, claim(store, channel=channel, limit=count), channel=channel)
    store.settle([settlement(message, DELIVERED) for message in messages])


def let_commits_end(clock: FakeClock) -> None:
    clock.advance(LATE_COMMIT_MS + 1)


def counts(store: SQLStore, step_ms: int = MINUTE_MS) -> dict[tuple[int, str, str], int]:
    found = store.tallies(0, step_ms)
    return {((each.start_ms - MINUTE) // MINUTE_MS, each.channel, each.outcome): each.messages for each in found}


def test_outcomes_are_counted_by_minute_channel_and_outcome(store: SQLStore, clock: FakeClock) -> None:
    deliver(store, 3)
    deliver(store, 1, channel="email")
    settle(store, begin(store, "dead"), DEAD)
    clock.advance(MINUTE_MS)
    deliver(store, 2)
    let_commits_end(clock)
    assert store.tally(100) == 7
    assert counts(store) == {
        (0, "email", "delivered"): 1, (0, "webhook", "delivered"): 3, (0, "webhook", "failed_terminal"): 1,
        (1, "webhook", "delivered"): 2,
    }  # fmt: skip


def test_what_is_counted_is_not_counted_again(store: SQLStore, clock: FakeClock) -> None:
    deliver(store, 5)
    let_commits_end(clock)
    assert [store.tally(2), store.tally(2), store.tally(2), store.tally(2)] == [2, 2, 1, 0]
    assert counts(store) == {(0, "webhook", "delivered"): 5}


def test_rows_of_one_millisecond_that_do_not_fit_one_batch_are_all_counted(store: SQLStore, clock: FakeClock) -> None:
    deliver(store, 30)
    let_commits_end(clock)
    while store.tally(7):
        pass
    assert counts(store) == {(0, "webhook", "delivered"): 30}


def test_the_latency_counts_from_the_first_due_time_where_it_is_known(store: SQLStore, clock: FakeClock) -> None:
    enqueue(store, new_row(delay_ms=60 * SECOND, ttl_ms=3_600_000), new_row())
    clock.advance(62 * SECOND)
    store.settle([settlement(message, DELIVERED) for message in take(store, claim(store))])
    let_commits_end(clock)
    store.tally(100)
    (tally,) = store.tallies(0, MINUTE_MS)
    assert tally == Tally(MINUTE + MINUTE_MS, "webhook", Status.DELIVERED, 2, 2 * SECOND + 62 * SECOND, 62 * SECOND)


def test_later_batches_add_to_the_minute(store: SQLStore, clock: FakeClock) -> None:
    for _ in range(2):
        clock.now = MINUTE
        enqueue(store, new_row())
        clock.advance(SECOND)
        store.settle([settlement(message, DELIVERED) for message in take(store, claim(store))])
    let_commits_end(clock)
    assert (store.tally(1), store.tally(1)) == (1, 1)
    assert store.tallies(0, MINUTE_MS) == [Tally(MINUTE, "webhook", Status.DELIVERED, 2, 2 * SECOND, SECOND)]


def test_minutes_are_summed_over_longer_steps(store: SQLStore, clock: FakeClock) -> None:
    clock.now -= clock.now % (60 * MINUTE_MS)
    hour = clock.now
    for _ in range(3):
        deliver(store, 2)
        clock.advance(MINUTE_MS)
    let_commits_end(clock)
    store.tally(100)
    assert [(each.start_ms, each.messages) for each in store.tallies(0, 60 * MINUTE_MS)] == [(hour, 6)]
    assert [each.messages for each in store.tallies(hour + MINUTE_MS, MINUTE_MS)] == [2, 2]


def test_a_message_that_was_replayed_ends_twice(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "m"), DEAD)
    let_commits_end(clock)
    store.tally(100)
    replay(store, "m")
    store.settle([settlement(message, DELIVERED) for message in take(store, claim(store))])
    let_commits_end(clock)
    store.tally(100)
    assert Counter(each.outcome for each in store.tallies(0, MINUTE_MS)) == {"failed_terminal": 1, "delivered": 1}


def test_where_writers_run_side_by_side_nothing_is_counted_while_an_earlier_commit_may_be_missing(
    postgres_store: SQLStore, clock: FakeClock
) -> None:
    deliver(postgres_store)
    clock.advance(LATE_COMMIT_MS)
    assert postgres_store.tally(100) == 0
    put(postgres_store, begin(postgres_store, "late").id, status="delivered", completed_at=MINUTE - 1)
    clock.advance(1)
    assert postgres_store.tally(100) == 2


def test_maintenances_at_once_count_each_row_once(store: SQLStore, other_store: SQLStore, clock: FakeClock) -> None:
    deliver(store, 200)
    deliver(store, 50, channel="email")
    let_commits_end(clock)

    def count(each: SQLStore) -> int:
        total = 0
        while counted := each.tally(9):
            total += counted
        return total

    with ThreadPoolExecutor(4) as pool:
        totals = list(pool.map(count, [store, other_store, store, other_store]))
    assert sum(totals) == 250
    assert counts(store) == {(0, "email", "delivered"): 50, (0, "webhook", "delivered"): 200}


def test_a_count_that_is_not_committed_is_made_again(store: SQLStore, clock: FakeClock) -> None:
    deliver(store, 3)
    let_commits_end(clock)
    with store.engine.connect() as connection:
        assert tallying.tally(Transaction(connection, store.sql, clock.now), 100) == 3
    assert counts(store) == {}
    assert store.tally(100) == 3


def test_counting_begins_a_week_back(store: SQLStore, clock: FakeClock) -> None:
    put(store, begin(store, "old").id, status="delivered", completed_at=MINUTE - KEPT_MS)
    deliver(store)
    let_commits_end(clock)
    assert store.tally(100) == 1


def test_tallies_are_forgotten_after_a_week(store: SQLStore, clock: FakeClock) -> None:
    deliver(store)
    let_commits_end(clock)
    store.tally(100)
    clock.now = MINUTE + KEPT_MS
    assert store.forget_tallies() == 0
    clock.advance(1)
    assert store.forget_tallies() == 1
    assert counts(store) == {}


def test_counting_goes_on_after_a_clock_that_was_ahead_has_jumped_back(store: SQLStore, clock: FakeClock) -> None:
    clock.advance(KEPT_MS)
    deliver(store)
    let_commits_end(clock)
    store.tally(100)
    clock.now = MINUTE
    assert store.unfuture(0, 0, {}, 100) == (1, {})
    clock.advance(1)
    deliver(store, 2)
    let_commits_end(clock)
    assert store.tally(100) == 2
