"""``pending``, ``claim``, ``redispatch`` and ``release``: which rows go to the broker, in which order, and how many."""

import pytest

from outbox.message import Claim
from outbox.store.records import Lane
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.steps import (
    CHANNEL,
    DELIVERED,
    MINUTE,
    NOW,
    RETRY,
    SECOND,
    begin,
    claim,
    claim_all,
    enqueue,
    enqueue_named,
    ids,
    new_row,
    put,
    settle,
    settlement,
    statuses,
    stored,
    take,
)


def test_an_empty_outbox_has_nothing_pending(store: SQLStore) -> None:
    assert not store.pending([CHANNEL])
    assert not store.pending([])


def test_pending_names_each_lane_that_is_due_with_its_oldest_moment(store: SQLStore) -> None:
    enqueue(store, new_row(due_at=NOW - 2), new_row(due_at=NOW - 1), new_row(priority=9), new_row(channel="email"))
    enqueue(store, new_row(priority=-5, delay_ms=1), new_row(channel="unknown"))
    pending = store.pending([CHANNEL, "email"])
    assert set(pending.lanes) == {Lane(CHANNEL, 0, NOW - 2), Lane(CHANNEL, 9, NOW), Lane("email", 0, NOW)}


def test_pending_sees_the_lowest_and_the_highest_priority(store: SQLStore) -> None:
    enqueue(store, new_row(priority=-32767), new_row(priority=32767))
    assert {lane.priority for lane in store.pending([CHANNEL]).lanes} == {-32767, 32767}


def test_pending_tells_of_rows_whose_horizon_passed_and_of_no_others(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "sent")
    claim(store)
    clock.advance(MINUTE)
    assert not store.pending([CHANNEL])
    clock.advance(1)
    assert store.pending([CHANNEL]).overdue
    assert not store.pending(["email"])


@pytest.mark.proves("R17")
def test_r17_the_oldest_due_row_is_claimed_first_and_seq_breaks_ties(store: SQLStore) -> None:
    enqueue_named(store, "c", due_at=NOW)
    enqueue_named(store, "d", due_at=NOW)
    enqueue_named(store, "a", due_at=NOW - 2)
    enqueue_named(store, "b", due_at=NOW - 1)
    assert ids(claim(store, limit=3)) == ["a", "b", "c"]
    assert ids(claim(store)) == ["d"]


@pytest.mark.proves("R17")
def test_r17_rows_with_and_without_a_key_are_handed_out_oldest_first(store: SQLStore) -> None:
    enqueue_named(store, "a", due_at=NOW - 5, ordering_key="z")
    enqueue_named(store, "b", due_at=NOW - 4)
    enqueue_named(store, "c", due_at=NOW - 3, ordering_key="y")
    enqueue_named(store, "d", due_at=NOW - 2)
    assert ids(claim(store)) == ["a", "b", "c", "d"]


def test_a_future_row_is_not_claimed_before_its_moment(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "later", delay_ms=SECOND)
    assert not claim(store)
    clock.advance(SECOND - 1)
    assert not claim(store)
    clock.advance(1)
    assert ids(claim(store)) == ["later"]


@pytest.mark.proves("R17")
def test_r17_a_row_in_backoff_does_not_hold_back_a_ready_one(store: SQLStore) -> None:
    settle(store, begin(store, "failed"), RETRY)
    enqueue_named(store, "ready")
    assert ids(claim(store)) == ["ready"]


def test_a_row_at_exactly_its_age_is_claimed_and_one_a_millisecond_older_is_not(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "old", ttl_ms=MINUTE)
    enqueue_named(store, "older", ttl_ms=MINUTE - 1)
    clock.advance(MINUTE)
    assert ids(claim(store)) == ["old"]


def test_only_the_lanes_own_channel_and_priority_are_claimed(store: SQLStore) -> None:
    enqueue_named(store, "mine", priority=5)
    enqueue_named(store, "lower", priority=0)
    enqueue_named(store, "email", channel="email", priority=5)
    assert ids(claim(store, priority=5)) == ["mine"]


def test_a_claim_carries_the_lease_and_the_key_and_leaves_both_as_they_are(store: SQLStore) -> None:
    enqueue_named(store, "m", ordering_key="chat")
    assert claim(store) == [Claim("m", 0, "chat")]
    assert (stored(store, "m").lease, stored(store, "m").attempt_count) == (0, 0)


def test_a_row_with_an_unknown_outcome_travels_alone(store: SQLStore) -> None:
    enqueue_named(store, "a", "b")
    put(store, "a", outcome_unknown=1)
    assert [(each.id, each.alone) for each in claim(store)] == [("a", True), ("b", False)]


def test_a_claimed_row_is_not_claimed_again(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m")
    assert claim(store)
    clock.advance(24 * 60 * MINUTE)
    assert not claim(store)


def test_max_in_flight_counts_what_is_dispatched_and_what_is_being_sent(store: SQLStore) -> None:
    enqueue(store, *(new_row() for _ in range(6)))
    first = claim(store, limit=2)
    take(store, first[:1])
    claimed = claim_all(store, max_in_flight=5)
    assert (len(claimed.claims), claimed.capped) == (3, True)
    assert claim_all(store, max_in_flight=5).capped
    assert not claim(store, max_in_flight=5)


def test_a_stalled_channel_fills_its_own_allowance_and_nothing_else(store: SQLStore) -> None:
    enqueue(store, *(new_row() for _ in range(3)), new_row(id="other", channel="email"))
    claim(store, max_in_flight=3)
    assert ids(claim(store, channel="email", max_in_flight=3)) == ["other"]


def test_an_allowance_that_is_not_used_up_is_not_called_capped(store: SQLStore) -> None:
    enqueue(store, new_row())
    assert not claim_all(store, max_in_flight=2).capped


def test_invariant_12_a_hundred_rows_of_a_closed_destination_do_not_hide_a_ready_one(store: SQLStore) -> None:
    enqueue(store, *(new_row(target="down", due_at=NOW - 1) for _ in range(250)), new_row(id="ready", target="up"))
    claimed: list[str] = []
    for _ in range(3):
        claimed += ids(claim(store, limit=100, closed={"down": NOW + 30 * SECOND}))
    assert claimed == ["ready"]
    assert not store.pending([CHANNEL])


def test_a_claim_comes_back_full_although_rows_of_a_closed_destination_are_due_before_the_others(store: SQLStore) -> None:
    """Else each would leave a part of the allowance to the next, and batches grow smaller and smaller."""
    enqueue(store, *(new_row(target="down", due_at=NOW - 1) for _ in range(5)), *(new_row(target="up") for _ in range(4)))
    claimed = claim_all(store, limit=4, closed={"down": NOW + 30 * SECOND})
    assert (len(claimed.claims), claimed.moved) == (4, 9)


def test_a_claim_does_not_work_off_a_closed_destination_as_a_whole(store: SQLStore) -> None:
    """Nobody else writes on SQLite meanwhile."""
    enqueue(store, *(new_row(target="down") for _ in range(20)))
    claimed = claim_all(store, limit=2, closed={"down": NOW + 30 * SECOND})
    assert (len(claimed.claims), claimed.moved) == (0, 8)


def test_a_postponed_row_comes_back_when_its_destination_opens_and_was_not_charged(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", target="down")
    claim(store, closed={"down": NOW + 30 * SECOND})
    row = stored(store, "m")
    assert (row.status, row.attempt_count, row.lease, row.next_attempt_at) == ("queued", 0, 1, NOW + 30 * SECOND)
    clock.advance(30 * SECOND)
    assert ids(claim(store)) == ["m"]


def test_a_row_of_a_destination_closed_until_further_notice_is_looked_at_again_within_a_minute(
    store: SQLStore, clock: FakeClock
) -> None:
    enqueue_named(store, "m", target="gone")
    claim(store, closed={"gone": None})
    assert not store.pending([CHANNEL])
    clock.advance(MINUTE)
    assert store.pending([CHANNEL]).lanes


def test_a_postponed_row_may_still_expire(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", target="gone", ttl_ms=10 * SECOND)
    claim(store, closed={"gone": None})
    clock.advance(10 * SECOND + 1)
    assert store.expire(100) == 1


def test_redispatch_keeps_status_and_lease_and_gives_the_row_a_new_horizon(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", ordering_key="chat")
    (first,) = claim(store)
    clock.advance(MINUTE + 1)
    assert store.redispatch(CHANNEL, 100) == [first]
    row = stored(store, "m")
    assert (row.status, row.lease, row.attempt_count) == ("dispatched", 0, 0)
    assert not store.redispatch(CHANNEL, 100)


def test_redispatch_waits_until_the_horizon_has_passed_and_keeps_to_its_channel(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m")
    claim(store)
    clock.advance(MINUTE)
    assert not store.redispatch(CHANNEL, 100)
    clock.advance(1)
    assert not store.redispatch("email", 100)
    assert ids(store.redispatch(CHANNEL, 100)) == ["m"]


def test_redispatch_takes_the_longest_overdue_first_up_to_its_limit(store: SQLStore, clock: FakeClock) -> None:
    for name in ("a", "b", "c"):
        enqueue_named(store, name)
        claim(store)
        clock.advance(1)
    clock.advance(MINUTE)
    assert sorted(ids(store.redispatch(CHANNEL, 2))) == ["a", "b"]
    assert ids(store.redispatch(CHANNEL, 2)) == ["c"]


@pytest.mark.parametrize("waited_ms", [0, 3 * MINUTE, 24 * 60 * MINUTE])
def test_what_is_claimed_is_published_again_after_a_minute_however_long_it_has_waited_for_its_turn(
    store: SQLStore, waited_ms: int
) -> None:
    enqueue_named(store, "m", due_at=NOW - waited_ms)
    claim(store)
    assert stored(store, "m").lease_until == NOW + MINUTE


@pytest.mark.parametrize(
    ("waited_ms", "horizon_ms"),
    [(MINUTE + 1, MINUTE + 1), (3 * MINUTE, 3 * MINUTE), (10 * MINUTE, 10 * MINUTE), (24 * 60 * MINUTE, 10 * MINUTE)],
)
def test_what_is_published_again_may_wait_as_long_as_it_has_so_far_up_to_ten_minutes(
    store: SQLStore, clock: FakeClock, waited_ms: int, horizon_ms: int
) -> None:
    enqueue_named(store, "m")
    claim(store)
    clock.advance(waited_ms)
    assert ids(store.redispatch(CHANNEL, 100)) == ["m"]
    assert stored(store, "m").lease_until == NOW + waited_ms + horizon_ms


def test_hours_without_workers_publish_a_bounded_number_of_copies(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m")
    claim(store)
    copies = 0
    for _ in range(4 * 60):
        clock.advance(MINUTE)
        copies += len(store.redispatch(CHANNEL, 100))
    assert 0 < copies < 32


def test_a_released_row_is_due_again_at_once_uncharged_and_its_copies_stay_valid(store: SQLStore) -> None:
    enqueue_named(store, "m")
    copy = claim(store)
    assert store.release(copy) == 1
    row = stored(store, "m")
    assert (row.status, row.attempt_count, row.lease, row.lease_until) == ("queued", 0, 0, None)
    assert store.pending([CHANNEL]).lanes
    assert ids(take(store, copy)) == ["m"]


def test_a_row_that_had_failed_before_is_released_as_such(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "m"), RETRY)
    clock.advance(5 * SECOND)
    store.release(claim(store))
    assert (stored(store, "m").status, stored(store, "m").attempt_count) == ("failed_retryable", 1)
    assert ids(claim(store)) == ["m"]


def test_release_leaves_rows_that_somebody_has_taken_or_ended(store: SQLStore) -> None:
    enqueue_named(store, "sending", "delivered")
    claims = claim(store)
    messages = {message.id: message for message in take(store, claims)}
    store.settle([settlement(messages["delivered"], DELIVERED)])
    assert store.release([*claims, Claim("unknown", 0)]) == 0
    assert statuses(store) == {"sending": "sending", "delivered": "delivered"}


def test_release_of_nothing_is_nothing(store: SQLStore) -> None:
    assert store.release([]) == 0


def test_the_databases_own_clock_claims_what_is_due_and_leaves_what_is_not(live_store: SQLStore) -> None:
    enqueue_named(live_store, "due")
    enqueue_named(live_store, "later", delay_ms=60 * MINUTE)
    assert [lane.channel for lane in live_store.pending([CHANNEL]).lanes] == [CHANNEL]
    assert ids(claim(live_store)) == ["due"]
