"""``unfuture``: a clock that has jumped back leaves nothing in the far future, where nobody would look at it."""

from collections.abc import Callable
from unittest.mock import ANY

import pytest

from outbox import Attempt, Channel, Message, Outbox, Receipt
from outbox.policy.destination import Limits, Rate
from outbox.policy.retry import Backoff
from outbox.store import rewinding
from outbox.store.records import GateKind, GateState, Lane
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.concurrency import passing, result, waiting
from tests.contract.held_open import claim_in
from tests.contract.steps import (
    CHANNEL,
    MINUTE,
    NOW,
    RETRY,
    begin,
    claim,
    enqueue,
    enqueue_named,
    ids,
    new_row,
    put,
    settle,
    stored,
)

HOUR = 60 * MINUTE
DAY = 24 * HOUR


def unfuture(store: SQLStore) -> int:
    return store.unfuture(HOUR, DAY, {}, 100)[0]


def test_a_clock_that_jumped_back_does_not_keep_retries_and_leases_in_the_far_future(store: SQLStore, clock: FakeClock) -> None:
    clock.advance(365 * DAY)
    settle(store, begin(store, "retried"), RETRY)
    begin(store, "sending")
    enqueue_named(store, "dispatched")
    claim(store)
    clock.now = NOW
    assert unfuture(store) == 3
    assert stored(store, "retried").next_attempt_at == NOW + HOUR
    assert stored(store, "sending").lease_until == NOW + DAY
    assert stored(store, "dispatched").lease_until == NOW + 10 * MINUTE
    assert unfuture(store) == 0


def test_what_an_application_scheduled_far_ahead_is_left_there(store: SQLStore) -> None:
    enqueue_named(store, "next-year", delay_ms=365 * DAY)
    assert unfuture(store) == 0
    assert stored(store, "next-year").next_attempt_at == NOW + 365 * DAY


def test_moments_within_reach_of_the_engine_are_left_alone(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "retried"), RETRY)
    begin(store, "sending")
    put(store, "retried", next_attempt_at=NOW + HOUR)
    put(store, "sending", lease_until=NOW + DAY)
    assert unfuture(store) == 0


def test_what_was_enqueued_in_the_future_moves_with_its_enqueue(store: SQLStore, clock: FakeClock) -> None:
    clock.advance(365 * DAY)
    enqueue_named(store, "at-once", ttl_ms=HOUR)
    enqueue_named(store, "later", delay_ms=MINUTE)
    clock.now = NOW
    assert unfuture(store) == 2
    at_once = stored(store, "at-once")
    assert (at_once.queued_at, at_once.next_attempt_at, at_once.expires_at) == (NOW, NOW, NOW + HOUR)
    assert stored(store, "later").next_attempt_at == NOW + MINUTE
    assert ids(claim(store)) == ["at-once"]


def test_behind_any_number_of_scheduled_messages_it_is_found_by_and_by(store: SQLStore, clock: FakeClock) -> None:
    for number in range(5):
        enqueue_named(store, f"scheduled-{number}", delay_ms=DAY)
        enqueue_named(store, f"urgent-{number}", delay_ms=DAY, priority=1)
    clock.advance(2 * DAY)
    enqueue_named(store, "ahead")
    enqueue_named(store, "urgent-ahead", priority=1)
    clock.now = NOW
    changed, places = store.unfuture(HOUR, DAY, {}, 2)
    assert changed == 0
    changed, places = store.unfuture(HOUR, DAY, places, 2)
    assert changed == 0
    assert store.unfuture(HOUR, DAY, places, 2) == (2, ANY)
    assert {stored(store, name).next_attempt_at for name in ("ahead", "urgent-ahead")} == {NOW}


def test_a_search_that_has_come_to_the_end_begins_anew(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "scheduled", delay_ms=DAY)
    _, places = store.unfuture(HOUR, DAY, {}, 1)
    assert places
    assert store.unfuture(HOUR, DAY, places, 1) == (0, {})


def test_what_the_engine_closed_in_the_future_opens_again_and_a_pause_stays(store: SQLStore, clock: FakeClock) -> None:
    clock.advance(365 * DAY)
    store.close(CHANNEL, "broken", GateKind.BREAKER, for_ms=MINUTE, reason="")
    store.close(CHANNEL, "unready", GateKind.NOT_READY, for_ms=MINUTE, reason="")
    store.close(CHANNEL, "paused", GateKind.PAUSE, for_ms=MINUTE, reason="")
    store.close(CHANNEL, "gone", GateKind.GONE, for_ms=None, reason="")
    clock.now = NOW
    assert unfuture(store) == 2
    closed = {gate.target for gate in store.gates(closed_only=False) if gate.state is GateState.CLOSED}
    assert closed == {"paused", "gone"}


def test_a_rate_is_not_stuck_at_a_moment_that_comes_in_a_year(store: SQLStore, clock: FakeClock) -> None:
    limits = Limits(rate=Rate(1))
    clock.advance(365 * DAY)
    enqueue(store, new_row())
    assert store.claim(Lane(CHANNEL, 0, 0), 10, limits).claims
    clock.now = NOW
    enqueue(store, new_row(id="next"))
    assert not store.claim(Lane(CHANNEL, 0, 0), 10, limits).claims
    unfuture(store)
    assert ids(store.claim(Lane(CHANNEL, 0, 0), 10, limits).claims) == ["next"]


def retried_ahead(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "m"), RETRY)
    put(store, "m", next_attempt_at=NOW + DAY)
    clock.advance(DAY)


def enqueued_ahead(store: SQLStore, clock: FakeClock) -> None:
    clock.advance(DAY)
    enqueue_named(store, "m", ttl_ms=HOUR)


Ahead = Callable[[SQLStore, FakeClock], None]


@pytest.mark.parametrize("ahead", [retried_ahead, enqueued_ahead])
def test_what_a_claim_is_dispatching_is_not_moved(store: SQLStore, clock: FakeClock, ahead: Ahead) -> None:
    """The relay's host is a day ahead, that of maintenance is not."""
    ahead(store, clock)
    before = stored(store, "m")
    with store.transaction() as tx:
        assert ids(claim_in(tx).claims) == ["m"]
        clock.now = NOW
        moved = waiting(store, unfuture, store)
    assert result(moved) == 1
    row = stored(store, "m")
    assert (row.status, row.lease_until) == ("dispatched", NOW + 10 * MINUTE)
    assert (row.queued_at, row.next_attempt_at, row.expires_at) == (
        before.queued_at, before.next_attempt_at, before.expires_at,
    )  # fmt: skip


@pytest.mark.parametrize("ahead", [retried_ahead, enqueued_ahead])
def test_what_is_being_moved_is_claimed_once(store: SQLStore, clock: FakeClock, ahead: Ahead) -> None:
    ahead(store, clock)
    clock.now = NOW
    with store.transaction() as tx:
        assert rewinding.unfuture(tx, HOUR, DAY, {}, 100)[0] == 1
        clock.advance(HOUR)
        claimed = passing(store, claim, store)
    assert [*ids(result(claimed)), *ids(claim(store))] == ["m"]


class Patient(Channel):
    name = "patient"
    backoff = Backoff((6 * 3_600.0,), jitter=0)

    def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        raise NotImplementedError


def test_a_pause_that_a_channel_asks_for_is_not_taken_for_a_clock_that_jumped(live_store: SQLStore, outbox_url: str) -> None:
    settle(live_store, begin(live_store, "m", channel="patient"), RETRY)
    in_five_hours = live_store.now_ms() + 5 * HOUR
    put(live_store, "m", next_attempt_at=in_five_hours)
    outbox = Outbox(outbox_url, channels=[Patient()])
    outbox.maintain_once()
    outbox.store.engine.dispose()  # type: ignore[attr-defined]
    assert stored(live_store, "m").next_attempt_at == in_five_hours
