"""``expire``, ``rescue`` and ``prune``: what maintenance may end, bring back and delete, to the millisecond."""

import pytest

from outbox.lifecycle import ACTIVE, TERMINAL, Status
from outbox.message import Message
from outbox.store.claiming import SHORTEST_HORIZON_MS
from outbox.store.records import MessageFilter
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DEFERRED,
    DELIVERED,
    MINUTE,
    NOW,
    PARKED,
    RESCUED,
    RETRY,
    RUN_LEASE_MS,
    SECOND,
    begin,
    begin_again,
    claim,
    count,
    end_as,
    enqueue,
    enqueue_named,
    ids,
    new_row,
    prune,
    put,
    rescue,
    settle,
    statuses,
    stored,
    take,
)

HOUR = 60 * MINUTE
DAY = 24 * HOUR


@pytest.mark.proves("R6")
def test_r6_exactly_at_its_age_a_row_is_kept_and_a_millisecond_older_it_expires(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", ttl_ms=30 * MINUTE)
    clock.advance(30 * MINUTE)
    assert store.expire(100) == 0
    clock.advance(1)
    assert store.expire(100) == 1
    row = stored(store, "m")
    assert (row.status, row.completed_at, row.error_class) == ("expired", NOW + 30 * MINUTE + 1, "expired")
    assert row.terminal_reason


@pytest.mark.proves("R6")
def test_r6_a_row_that_waits_in_the_broker_expires_and_one_that_is_being_sent_does_not(
    store: SQLStore, clock: FakeClock
) -> None:
    enqueue_named(store, "sending", ttl_ms=SECOND)
    take(store, claim(store))
    enqueue_named(store, "dispatched", ttl_ms=SECOND)
    claim(store)
    enqueue_named(store, "queued", ttl_ms=SECOND)
    clock.advance(HOUR)
    assert store.expire(100) == 2
    assert statuses(store) == {"sending": "sending", "dispatched": "expired", "queued": "expired"}


@pytest.mark.proves("R6")
def test_r6_a_row_without_a_ttl_never_expires(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", ttl_ms=None)
    clock.advance(365 * DAY)
    assert store.expire(100) == 0


@pytest.mark.parametrize("verdict", [RETRY, DEFERRED, PARKED])
def test_what_waits_for_another_attempt_expires_and_what_is_parked_does_not(
    store: SQLStore, clock: FakeClock, verdict: object
) -> None:
    settle(store, begin(store, "m", ttl_ms=MINUTE), verdict)  # type: ignore[arg-type]
    clock.advance(HOUR)
    assert store.expire(100) == (0 if verdict is PARKED else 1)


def test_rows_of_channels_that_nobody_knows_expire_too(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", channel="forgotten", ttl_ms=SECOND, stamped=False)
    clock.advance(MINUTE)
    assert store.expire(100) == 1


@pytest.mark.proves("T7")
def test_t7_invariant_10_expiry_keeps_the_last_error(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "m", ttl_ms=MINUTE), RETRY)
    clock.advance(HOUR)
    store.expire(100)
    assert (stored(store, "m").status, stored(store, "m").last_error) == ("expired", "HTTP 503")


def test_expiry_goes_in_bounded_batches_oldest_first(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "b", ttl_ms=2 * SECOND)
    enqueue_named(store, "a", ttl_ms=SECOND)
    enqueue_named(store, "c", ttl_ms=3 * SECOND)
    clock.advance(MINUTE)
    assert store.expire(2) == 2
    assert statuses(store) == {"a": "expired", "b": "expired", "c": "queued"}
    assert (store.expire(2), store.expire(2)) == (1, 0)


@pytest.mark.proves("T11", "R10")
def test_a_row_is_rescued_when_its_lease_has_run_out_and_not_before(store: SQLStore, clock: FakeClock) -> None:
    begin(store, "m")
    clock.advance(RUN_LEASE_MS)
    assert rescue(store) == 0
    clock.advance(1)
    assert rescue(store) == 1
    row = stored(store, "m")
    assert (row.status, row.lease, row.attempt_count, row.outcome_unknown) == ("failed_retryable", 1, 1, 1)
    assert row.next_attempt_at == clock.now + RESCUED.delay_ms


def test_a_heartbeat_puts_the_rescue_off(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    clock.advance(RUN_LEASE_MS)
    store.extend([message], run_lease_ms=RUN_LEASE_MS, longest_ms=HOUR)
    clock.advance(RUN_LEASE_MS)
    assert rescue(store) == 0
    clock.advance(1)
    assert rescue(store) == 1


def test_what_a_dead_process_was_sending_is_rescued_at_once_and_nothing_else(store: SQLStore) -> None:
    enqueue_named(store, "dead-1", "dead-2", "alive", "waiting")
    first, second, third, _ = claim(store)
    take(store, [first, second], owner="node:1:a")
    take(store, [third], owner="node:1:b")
    assert rescue(store, owner="node:1:a") == 2
    assert statuses(store) == {
        "dead-1": "failed_retryable", "dead-2": "failed_retryable", "alive": "sending", "waiting": "dispatched",
    }  # fmt: skip
    assert rescue(store, owner="node:1:a") == 0


def test_what_a_dead_process_claimed_last_and_nobody_began_is_due_again_at_once(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "long ago")
    claim(store, owner="node:1:a")
    clock.advance(10 * SECOND)
    enqueue_named(store, "another's")
    claim(store, owner="node:1:b")
    enqueue_named(store, "begun", "untried", "tried")
    put(store, "tried", status="failed_retryable", attempt_count=1)
    copies = claim(store, owner="node:1:a")
    take(store, copies[:1])
    clock.advance(SECOND)

    assert store.recall("node:1:a", 5 * SECOND, 100) == 2

    assert statuses(store) == {
        "long ago": "dispatched", "another's": "dispatched", "begun": "sending", "untried": "queued",
        "tried": "failed_retryable",
    }  # fmt: skip
    assert store.recall("node:1:a", 5 * SECOND, 100) == 0
    assert ids(claim(store)) == ["untried", "tried"]
    assert ids(take(store, copies)) == ["untried", "tried"]  # a copy that was published after all is as good as the next one


def test_a_recall_is_bounded_and_leaves_what_is_too_old_to_be_sent(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "short-lived", ttl_ms=SECOND)
    enqueue_named(store, *"abc")
    claim(store, owner="node:1:a")
    clock.advance(2 * SECOND)
    assert [store.recall("node:1:a", 5 * SECOND, 2) for _ in range(3)] == [2, 1, 0]
    assert statuses(store)["short-lived"] == "dispatched"


def test_what_is_published_again_is_its_publishers(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m")
    claim(store, owner="node:1:a")
    clock.advance(SHORTEST_HORIZON_MS + 1)
    store.redispatch(CHANNEL, 100, "node:1:b")
    assert (store.recall("node:1:a", HOUR, 100), store.recall("node:1:b", SECOND, 100)) == (0, 1)


def test_what_a_dead_process_had_settled_is_left_alone(store: SQLStore) -> None:
    settle(store, begin(store, "m"), DELIVERED)
    assert rescue(store, owner="worker-1") == 0
    assert statuses(store) == {"m": "delivered"}


def test_who_decides_sees_the_row_and_may_leave_it_alone(store: SQLStore, clock: FakeClock) -> None:
    begin(store, "spared")
    begin(store, "dead")
    clock.advance(RUN_LEASE_MS + 1)
    seen: list[Message] = []

    def spare_the_first(message: Message) -> object:
        seen.append(message)
        return None if message.id == "spared" else DEAD

    assert store.rescue(spare_the_first, 100) == 1  # type: ignore[arg-type]
    assert ids(seen) == ["spared", "dead"]
    assert statuses(store) == {"spared": "sending", "dead": "failed_terminal"}


def test_a_rescue_is_on_record_as_an_attempt_with_its_owner(store: SQLStore, clock: FakeClock) -> None:
    begin(store, "m")
    clock.advance(RUN_LEASE_MS + 1)
    rescue(store)
    (line,) = store.attempts("m")
    assert (line.outcome, line.error_class, line.owner, line.started_at) == ("rescued", "unknown", "worker-1", NOW)


def test_rescue_goes_in_bounded_batches(store: SQLStore, clock: FakeClock) -> None:
    enqueue(store, *(new_row() for _ in range(5)))
    take(store, claim(store))
    clock.advance(RUN_LEASE_MS + 1)
    assert [store.rescue(lambda _: RESCUED, 2) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.proves("R7")
@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_r7_a_terminal_row_is_kept_to_the_end_of_its_retention_and_then_deleted(
    store: SQLStore, clock: FakeClock, status: Status
) -> None:
    end_as(store, "m", status)
    enqueue_named(store, "other")
    clock.advance(48 * HOUR)
    assert (store.prunable(CHANNEL, status, 48 * HOUR), prune(store, status, 48 * HOUR)) == (0, 0)
    clock.advance(1)
    for another in set(Status) - {status}:
        assert prune(store, another, 48 * HOUR) == 0
    assert (store.prunable(CHANNEL, status, 48 * HOUR), prune(store, status, 48 * HOUR)) == (1, 1)
    assert statuses(store) == {"other": "queued"}


@pytest.mark.proves("R7")
def test_r7_rows_that_are_not_terminal_are_never_pruned(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "parked"), PARKED)
    settle(store, begin(store, "failed_retryable"), RETRY)
    begin(store, "sending")
    enqueue_named(store, "dispatched")
    claim(store)
    enqueue_named(store, "queued")
    assert set(statuses(store)) == set(ACTIVE)
    clock.advance(365 * DAY)
    assert [prune(store, status, 0) for status in Status] == [0] * len(Status)
    assert count(store) == len(ACTIVE)


@pytest.mark.proves("R7")
def test_r7_pruning_goes_in_bounded_batches_oldest_first(store: SQLStore, clock: FakeClock) -> None:
    for name in ("a", "b", "c"):
        settle(store, begin(store, name), DELIVERED)
        clock.advance(1)
    assert prune(store, Status.DELIVERED, 0, 2) == 2
    assert set(statuses(store)) == {"c"}
    assert prune(store, Status.DELIVERED, 0, 2) == 1


def test_the_attempts_of_a_pruned_row_go_with_it_and_those_of_others_stay(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "gone"), DEAD)
    clock.advance(MINUTE)
    settle(store, begin(store, "kept"), DEAD)
    assert prune(store, Status.FAILED_TERMINAL, SECOND) == 1
    assert (store.attempts("gone"), len(store.attempts("kept"))) == ([], 1)


def test_a_late_outcome_of_a_pruned_row_is_lost_and_leaves_nothing(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    clock.advance(RUN_LEASE_MS + 1)
    rescue(store, DEAD)
    clock.advance(1)
    prune(store, Status.FAILED_TERMINAL, 0)
    assert settle(store, message, DELIVERED).lost == {"m"}
    assert (count(store), store.attempts("m")) == (0, [])


def test_the_databases_own_clock_expires_rescues_and_prunes(live_store: SQLStore) -> None:
    enqueue_named(live_store, "expired", ttl_ms=MINUTE, due_at=0)
    message = begin(live_store, "rescued")
    assert (live_store.expire(100), rescue(live_store)) == (1, 0)
    put(live_store, message.id, lease_until=0)
    assert rescue(live_store) == 1
    assert prune(live_store, Status.EXPIRED, DAY) == 0
    put(live_store, "expired", completed_at=0)
    assert prune(live_store, Status.EXPIRED, DAY) == 1


def test_invariant_11_maintenance_run_again_changes_nothing_more(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "expired", ttl_ms=SECOND)
    begin(store, "rescued")
    clock.advance(RUN_LEASE_MS + 1)
    assert (store.expire(100), rescue(store)) == (1, 1)
    before = {name: stored(store, name).columns for name in ("expired", "rescued")}
    assert (store.expire(100), rescue(store), store.mend(("", ""), 100)) == (0, 0, (0, None))
    assert store.unfuture(HOUR, DAY, {}, 100) == (0, {})
    assert {name: stored(store, name).columns for name in before} == before


def test_a_rescued_row_is_tried_again_alone_under_a_new_lease(store: SQLStore, clock: FakeClock) -> None:
    begin(store, "m")
    clock.advance(RUN_LEASE_MS + 1)
    rescue(store)
    assert not store.pending([CHANNEL])
    clock.advance(5 * SECOND)
    message = begin_again(store, "m")
    assert (message.lease, message.attempt_count, message.outcome_unknown) == (2, 2, True)
    assert store.list_messages(MessageFilter(status=Status.SENDING), 10)
