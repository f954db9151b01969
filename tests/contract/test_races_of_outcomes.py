"""Outcomes, rescue, operators and maintenance when they meet at one row, or at one blocked mark.

``with store.transaction()`` is the one that came first; what runs beside it came second. Tests of the `postgres_store`
are about what SQLite's single writer rules out.
"""

from collections.abc import Callable

import pytest

from outbox.lifecycle import Status
from outbox.message import Message
from outbox.policy.retry import Verdict
from outbox.store import claiming, sweeping
from outbox.store.records import Taker
from outbox.store.sql import Transaction
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.concurrency import in_background, passing, pausing_before, result, waiting
from tests.contract.held_open import cancel_in, claim_in, expire_in, extend_in, replay_in, rescue_in, settle_in, take_in
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DELIVERED,
    MINUTE,
    PARKED,
    RETRY,
    RUN_LEASE_MS,
    SECOND,
    begin,
    cancel,
    claim,
    claim_all,
    end_as,
    enqueue_named,
    ids,
    prune,
    put,
    replay,
    rescue,
    settle,
    settlement,
    statuses,
    stored,
    take,
)

LOCKS_THE_BLOCKER = "SELECT message_outbox.seq, message_outbox.status FROM message_outbox"


def test_t9_a_success_that_waits_for_the_rescue_is_recorded(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    clock.advance(RUN_LEASE_MS + 1)
    with store.transaction() as tx:
        assert rescue_in(tx) == 1
        late = waiting(store, settle, store, message, DELIVERED)
    assert result(late).recorded == {"m"}
    assert stored(store, "m").status == "delivered"


@pytest.mark.proves("T5")
def test_t5_a_failure_that_waits_for_the_rescue_is_lost(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    clock.advance(RUN_LEASE_MS + 1)
    with store.transaction() as tx:
        assert rescue_in(tx, PARKED) == 1
        late = waiting(store, settle, store, message, RETRY)
    assert result(late).lost == {"m"}
    assert stored(store, "m").status == "parked"


@pytest.mark.parametrize("verdict", [DELIVERED, RETRY])
def test_a_rescue_passes_over_a_row_that_is_being_settled(store: SQLStore, clock: FakeClock, verdict: Verdict) -> None:
    message = begin(store, "m")
    clock.advance(RUN_LEASE_MS + 1)
    with store.transaction() as tx:
        settle_in(tx, message, verdict=verdict)
        second = passing(store, rescue, store)
    assert (result(second), rescue(store)) == (0, 0)
    assert stored(store, "m").status == verdict.status


def test_a_recall_passes_over_a_row_that_is_being_taken(store: SQLStore) -> None:
    enqueue_named(store, "m")
    copies = claim(store, owner="node:1:a")
    with store.transaction() as tx:
        take_in(tx, copies)
        recalled = passing(store, store.recall, "node:1:a", MINUTE, 100)
    assert (result(recalled), store.recall("node:1:a", MINUTE, 100)) == (0, 0)
    assert statuses(store) == {"m": "sending"}


def test_a_take_that_waits_for_a_recall_begins_what_is_due_again(store: SQLStore) -> None:
    enqueue_named(store, "m")
    copies = claim(store, owner="node:1:a")
    with store.transaction() as tx:
        assert claiming.recall(tx, "node:1:a", MINUTE, 100) == 1
        taken = waiting(store, take, store, copies)
    assert ids(result(taken)) == ["m"]
    assert claim(store) == []


def test_two_rescues_at_once_bring_a_row_back_once(store: SQLStore, clock: FakeClock) -> None:
    begin(store, "m")
    clock.advance(RUN_LEASE_MS + 1)
    with store.transaction() as tx:
        assert rescue_in(tx) == 1
        second = passing(store, rescue, store, owner="worker-1")
    assert result(second) == 0
    assert len(store.attempts("m")) == 1


def test_a_heartbeat_that_waits_for_the_rescue_is_missed(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    clock.advance(RUN_LEASE_MS + 1)
    with store.transaction() as tx:
        rescue_in(tx)
        beat = waiting(store, store.extend, [message], run_lease_ms=RUN_LEASE_MS, longest_ms=10 * RUN_LEASE_MS)
    assert result(beat) == set()


def test_a_rescue_passes_over_a_row_whose_heartbeat_is_under_way(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    clock.advance(RUN_LEASE_MS + 1)
    with store.transaction() as tx:
        extend_in(tx, message)
        second = passing(store, rescue, store)
    assert (result(second), rescue(store)) == (0, 0)


def test_a_success_that_waits_for_a_replay_is_lost(store: SQLStore) -> None:
    message = end_as(store, "m", Status.PARKED)
    with store.transaction() as tx:
        replay_in(tx, "m")
        late = waiting(store, settle, store, message, DELIVERED)
    assert result(late).lost == {"m"}
    assert statuses(store) == {"m": "queued"}


def test_a_replay_that_waits_for_a_success_replays_a_delivered_message_knowingly(store: SQLStore) -> None:
    message = end_as(store, "m", Status.PARKED)
    with store.transaction() as tx:
        settle_in(tx, message, verdict=DELIVERED)
        replayed = waiting(store, replay, store, "m")
    assert result(replayed).changed == ["m"]
    assert store.operations("m")[0].from_status == "delivered"


@pytest.mark.parametrize(("verdict", "changed"), [(DELIVERED, []), (RETRY, ["m"])])
def test_a_cancel_that_waits_for_an_outcome_sees_it(store: SQLStore, verdict: Verdict, changed: list[str]) -> None:
    message = begin(store, "m")
    with store.transaction() as tx:
        settle_in(tx, message, verdict=verdict)
        cancelled = waiting(store, cancel, store, "m")
    assert result(cancelled).changed == changed


def test_a_prune_passes_over_a_row_that_is_being_replayed(store: SQLStore, clock: FakeClock) -> None:
    end_as(store, "m", Status.FAILED_TERMINAL)
    clock.advance(SECOND)
    with store.transaction() as tx:
        replay_in(tx, "m")
        pruned = passing(store, prune, store, Status.FAILED_TERMINAL, 0)
    assert (result(pruned), prune(store, Status.FAILED_TERMINAL, 0)) == (0, 0)
    assert (statuses(store), len(store.attempts("m"))) == ({"m": "queued"}, 1)


def test_a_replay_that_waits_for_a_prune_finds_nothing(store: SQLStore, clock: FakeClock) -> None:
    end_as(store, "m", Status.FAILED_TERMINAL)
    clock.advance(SECOND)
    with store.transaction() as tx:
        assert sweeping.prune(tx, CHANNEL, Status.FAILED_TERMINAL, 0, 100) == 1
        replayed = waiting(store, replay, store, "m")
    assert result(replayed).changed == []
    assert statuses(store) == {}


def settled(tx: Transaction, head: Message) -> None:
    settle_in(tx, head, verdict=DEAD)


def settled_late(tx: Transaction, head: Message) -> None:
    settle_in(tx, head, verdict=DELIVERED)


def cancelled(tx: Transaction, head: Message) -> None:
    cancel_in(tx, head.id)


def expired(tx: Transaction, _head: Message) -> None:
    assert expire_in(tx) == 1


Leave = Callable[[Transaction, Message], None]


def head_and_row_behind(store: SQLStore, leave: Leave) -> Message:
    head = begin(store, "head", ordering_key="chat")
    if leave is not settled:
        settle(store, head, RETRY)
    if leave is expired:
        put(store, "head", expires_at=0)
    enqueue_named(store, "behind", ordering_key="chat")
    return head


@pytest.mark.parametrize("leave", [settled, settled_late, cancelled])
def test_a_head_that_leaves_while_a_claim_marks_the_rows_behind_it_clears_the_mark(store: SQLStore, leave: Leave) -> None:
    head = head_and_row_behind(store, leave)

    def leave_now() -> None:
        with store.transaction() as tx:
            leave(tx, head)

    with store.transaction() as tx:
        assert claim_in(tx).moved == 1
        left = waiting(store, leave_now)
    result(left)
    assert ids(claim(store)) == ["behind"]


def test_a_head_that_expires_after_a_claim_marked_the_rows_behind_it_clears_the_mark(store: SQLStore) -> None:
    head_and_row_behind(store, expired)
    with store.transaction() as tx:
        assert claim_in(tx).moved == 1
        expiry = passing(store, store.expire, 100)
    assert result(expiry) + store.expire(100) == 1
    assert ids(claim(store)) == ["behind"]


@pytest.mark.parametrize("leave", [settled, settled_late, cancelled, expired])
def test_a_claim_marks_nothing_behind_a_head_that_is_leaving(store: SQLStore, leave: Leave) -> None:
    head = head_and_row_behind(store, leave)
    with store.transaction() as tx:
        leave(tx, head)
        claimed = passing(store, claim_all, store)
    assert [*ids(result(claimed).claims), *ids(claim(store))] == ["behind"]


@pytest.mark.parametrize("leave", [settled, settled_late, cancelled, expired])
def test_a_claim_that_looked_before_the_head_left_marks_nothing_behind_it(postgres_store: SQLStore, leave: Leave) -> None:
    store = postgres_store
    head = head_and_row_behind(store, leave)
    with pausing_before(store, LOCKS_THE_BLOCKER) as (reached, go_on):
        claimed = in_background(claim_all, store)
        assert reached.wait(20)
        with store.transaction() as tx:
            leave(tx, head)
        go_on.set()
        assert result(claimed).moved == 0
    assert ids(claim(store)) == ["behind"]


def test_a_claim_that_looked_while_a_later_row_was_being_sent_marks_nothing_once_that_ended(
    postgres_store: SQLStore, clock: FakeClock
) -> None:
    store = postgres_store
    enqueue_named(store, "reminder", delay_ms=SECOND, ordering_key="chat")
    later = begin(store, "later", ordering_key="chat")
    clock.advance(SECOND)
    with pausing_before(store, LOCKS_THE_BLOCKER) as (reached, go_on):
        claimed = in_background(claim_all, store)
        assert reached.wait(20)
        settle(store, later, RETRY)
        go_on.set()
        assert result(claimed).moved == 0
    assert ids(claim(store)) == ["reminder"]


def test_a_follower_that_was_postponed_since_the_look_does_not_travel(postgres_store: SQLStore, clock: FakeClock) -> None:
    store = postgres_store
    enqueue_named(store, "head", "follower", ordering_key="chat")
    put(store, "follower", blocked=1)
    with pausing_before(store, LOCKS_THE_BLOCKER) as (reached, go_on):
        claims = in_background(claim, store)
        assert reached.wait(20)
        put(store, "follower", next_attempt_at=clock.now + SECOND, lease=1)
        go_on.set()
        assert ids(result(claims)) == ["head"]


def test_mend_passes_over_rows_that_a_claim_is_dispatching(postgres_store: SQLStore) -> None:
    store = postgres_store
    enqueue_named(store, "1", ordering_key="chat")
    put(store, "1", blocked=1)
    with store.transaction() as tx:
        tx.connection.execute(store.tables.messages.update().values(priority=0))
        assert result(in_background(store.mend, ("", ""), 100)) == (0, None)
    assert store.mend(("", ""), 100) == (1, None)


def test_a_late_success_of_the_head_and_a_take_of_its_follower_in_one_task_wait_for_the_rescue(
    store: SQLStore, clock: FakeClock
) -> None:
    enqueue_named(store, "head", "follower", ordering_key="chat")
    head_claim, follower = claim(store)
    (head,) = take(store, [head_claim])
    clock.advance(RUN_LEASE_MS + 1)
    with store.transaction() as tx:
        assert rescue_in(tx) == 1
        both = waiting(
            store, store.settle_and_take, [settlement(head, DELIVERED)], [follower], Taker(CHANNEL, "worker-1", RUN_LEASE_MS)
        )
    recorded, taken = result(both)
    assert (recorded.recorded, ids(taken)) == ({"head"}, ["follower"])
