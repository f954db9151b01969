"""An outcome that comes while its row is parked, ends or is brought back: a success is recorded, a failure undoes nothing.

``with store.transaction()`` is the one that came first; what runs beside it came second.
"""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from outbox.message import Message
from outbox.policy.retry import Verdict
from outbox.store.sql import Transaction
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.concurrency import passing, result, waiting
from tests.contract.held_open import cancel_in, expire_in, extend_in, rescue_in, settle_in
from tests.contract.steps import (
    DEAD,
    DEFERRED,
    DELIVERED,
    MINUTE,
    PARKED,
    RETRY,
    RUN_LEASE_MS,
    WITHHELD,
    begin,
    cancel,
    rescue,
    settle,
    stored,
)

FAILURES = [RETRY, DEAD, PARKED, WITHHELD, DEFERRED]
OWNER = "worker-1"


def park(tx: Transaction) -> None:
    assert rescue_in(tx, PARKED) == 1


def give_up(tx: Transaction) -> None:
    assert rescue_in(tx, DEAD) == 1


def expire(tx: Transaction) -> None:
    assert expire_in(tx) == 1


def cancel_it(tx: Transaction) -> None:
    assert cancel_in(tx, "m").changed == ["m"]


OVERTAKING = {
    park: "settled late",
    give_up: "settled late",
    expire: "sent before it expired",
    cancel_it: "sent before the cancel",
}

Overtake = Callable[[Transaction], None]


def sent_by_nobody(store: SQLStore, clock: FakeClock, overtake: Overtake) -> Message:
    """A message, as its sender last saw it, to which ``overtake`` may happen now."""
    message = begin(store, "m", ttl_ms=MINUTE)
    clock.advance(MINUTE + 1)
    if overtake in (expire, cancel_it):
        assert rescue(store) == 1
    return message


@pytest.mark.proves("T13")
@pytest.mark.parametrize("overtake", OVERTAKING)
def test_invariant_9_a_success_that_waits_for_whatever_ends_its_row_is_recorded(
    store: SQLStore, clock: FakeClock, overtake: Overtake
) -> None:
    message = sent_by_nobody(store, clock, overtake)
    with store.transaction() as tx:
        overtake(tx)
        late = waiting(store, settle, store, message, DELIVERED, receipt='"ok"')
    assert result(late).recorded == {"m"}
    row = stored(store, "m")
    assert (row.status, row.receipt, row.terminal_reason) == ("delivered", '"ok"', OVERTAKING[overtake])
    assert store.violations(10) == []


@pytest.mark.proves("T5")
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("overtake", OVERTAKING)
def test_t5_a_failure_that_comes_while_its_row_ends_is_lost(
    store: SQLStore, clock: FakeClock, overtake: Overtake, failure: Verdict
) -> None:
    """It waits for whoever ends what is being sent; a row that was brought back before is no more its business."""
    message = sent_by_nobody(store, clock, overtake)
    beside = waiting if stored(store, "m").status == "sending" else passing
    with store.transaction() as tx:
        overtake(tx)
        before, log = columns(tx), lines(tx)
        late = beside(store, settle, store, message, failure)
    assert result(late).lost == {"m"}
    with store.transaction() as tx:
        assert (columns(tx), lines(tx)) == (before, log)


def columns(tx: Transaction) -> dict[str, object]:
    return dict(tx.connection.execute(select(tx.sql.tables.messages)).mappings().one())


def lines(tx: Transaction) -> list[dict[str, object]]:
    return [dict(line) for line in tx.connection.execute(select(tx.sql.tables.attempts)).mappings()]


def test_an_expiry_passes_over_a_row_whose_late_success_is_being_recorded(store: SQLStore, clock: FakeClock) -> None:
    message = sent_by_nobody(store, clock, expire)
    with store.transaction() as tx:
        assert settle_in(tx, message, verdict=DELIVERED).recorded == {"m"}
        expiry = passing(store, store.expire, 100)
    assert (result(expiry), store.expire(100)) == (0, 0)
    assert stored(store, "m").status == "delivered"


def test_a_cancel_that_waits_for_a_late_success_is_refused(store: SQLStore, clock: FakeClock) -> None:
    message = sent_by_nobody(store, clock, cancel_it)
    with store.transaction() as tx:
        assert settle_in(tx, message, verdict=DELIVERED).recorded == {"m"}
        cancelled = waiting(store, cancel, store, "m")
    assert "delivered already" in result(cancelled).refused[0].reason
    assert stored(store, "m").status == "delivered"


@pytest.mark.parametrize(("verdict", "recorded", "status"), [(DELIVERED, {"m"}, "delivered"), (RETRY, set(), "parked")])
def test_an_outcome_that_waits_for_the_parents_rescue_is_recorded_if_it_is_a_success(
    store: SQLStore, verdict: Verdict, recorded: set[str], status: str
) -> None:
    """The process was taken for dead, and had sent."""
    message = begin(store, "m")
    with store.transaction() as tx:
        assert rescue_in(tx, PARKED, owner=OWNER) == 1
        late = waiting(store, settle, store, message, verdict)
    assert result(late).recorded == recorded
    assert stored(store, "m").status == status


def test_a_heartbeat_that_waits_for_the_parents_rescue_is_missed(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    with store.transaction() as tx:
        assert rescue_in(tx, owner=OWNER) == 1
        beat = waiting(store, store.extend, [message], run_lease_ms=RUN_LEASE_MS, longest_ms=10 * RUN_LEASE_MS)
    assert result(beat) == set()
    assert (stored(store, "m").status, stored(store, "m").lease_until) == ("failed_retryable", None)


@pytest.mark.parametrize("verdict", [DELIVERED, RETRY])
def test_the_parents_rescue_passes_over_a_row_that_is_being_settled(store: SQLStore, verdict: Verdict) -> None:
    """The last that the process sent to the database before it died may be still on its way through it."""
    message = begin(store, "m")
    with store.transaction() as tx:
        settle_in(tx, message, verdict=verdict)
        second = passing(store, rescue, store, owner=OWNER)
    assert (result(second), rescue(store, owner=OWNER)) == (0, 0)
    assert stored(store, "m").status == verdict.status


def test_the_parents_rescue_passes_over_a_row_whose_heartbeat_is_under_way_and_then_brings_it_back(store: SQLStore) -> None:
    message = begin(store, "m")
    with store.transaction() as tx:
        assert extend_in(tx, message) == {"m"}
        second = passing(store, rescue, store, owner=OWNER)
    assert result(second) + rescue(store, owner=OWNER) == 1
    assert stored(store, "m").status == "failed_retryable"


def test_the_parents_rescue_and_one_by_time_at_once_bring_a_row_back_once(store: SQLStore, clock: FakeClock) -> None:
    begin(store, "m")
    clock.advance(RUN_LEASE_MS + 1)
    with store.transaction() as tx:
        assert rescue_in(tx, owner=OWNER) == 1
        second = passing(store, rescue, store)
    assert result(second) == 0
    assert len(store.attempts("m")) == 1
