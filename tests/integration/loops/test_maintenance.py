"""Maintenance: services of one shape, bounded, safe to repeat; a failing one does not stop the others."""

from typing import Any

import pytest

from outbox import Backoff, Outbox, RetryLater
from outbox.errors import DatabaseBusy
from outbox.lifecycle import Status
from outbox.maintenance import Maintenance, Service
from outbox.policy.retention import Retention
from outbox.store.records import Taker
from outbox.telemetry import Maintained
from outbox.testing import FakeClock
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import (
    WAIT_S,
    Chat,
    Events,
    Held,
    InThread,
    Row,
    claim,
    deliver,
    enqueue_many,
    put,
    raising,
    rows,
    statuses,
)

HOUR = 3_600_000


def die_while_sending(outbox: Outbox, count: int = 1, **fields: Any) -> list[str]:
    """Rows that somebody took and of whom nothing was heard since."""
    ids = enqueue_many(outbox, count, **fields)
    outbox.store.take(claim(outbox), Taker("chat", "dead-process", 30_000))
    return ids


@pytest.fixture
def timed(open_outbox: OpenOutbox, clock: FakeClock) -> Outbox:
    """An outbox that lives by the test's clock, with a channel."""
    outbox = open_outbox(clock=clock)
    outbox.register(Chat(backoff=Backoff(jitter=0)))
    return outbox


def test_a_pass_over_a_sound_outbox_changes_and_tells_nothing(timed: Outbox) -> None:
    enqueue_many(timed, 3)
    events = Events(timed)
    assert set(timed.maintain_once().values()) == {0}
    assert events.all == []


def test_r6_a_row_older_than_its_ttl_expires_and_keeps_its_last_error(timed: Outbox, clock: FakeClock) -> None:
    (message_id,) = enqueue_many(timed, 1, expires_in=60)
    put(timed, message_id, last_error="HTTP 503")
    clock.advance(60_000)
    assert timed.maintain_once()["expire"] == 0
    clock.advance(1)
    assert timed.maintain_once()["expire"] == 1
    row = Row(timed, message_id)
    assert (row.status, row.last_error, row.error_class) == ("expired", "HTTP 503", "expired")


def test_t11_a_row_whose_sender_is_gone_is_rescued_once_its_lease_is_over(timed: Outbox, clock: FakeClock) -> None:
    (message_id,) = die_while_sending(timed)
    clock.advance(30_000)
    assert timed.maintain_once()["rescue"] == 0
    clock.advance(1)
    assert timed.maintain_once()["rescue"] == 1
    row = Row(timed, message_id)
    assert (row.status, row.outcome_unknown, row.attempt_count) == ("failed_retryable", 1, 1)
    assert row.next_attempt_at == clock.now + 5_000


def test_t12_a_message_that_kills_its_worker_each_time_ends_with_its_attempts(timed: Outbox, clock: FakeClock) -> None:
    (message_id,) = enqueue_many(timed, 1)
    for _ in range(5):
        timed.store.take(claim(timed), Taker("chat", "dead-process", 30_000))
        clock.advance(30_001)
        timed.maintain_once()
        clock.advance(600_001)
    row = Row(timed, message_id)
    assert (row.status, row.attempt_count, row.terminal_reason) == ("failed_terminal", 5, "attempts used up")


def test_rescue_of_a_dead_process_takes_its_rows_and_no_others(timed: Outbox) -> None:
    dead = die_while_sending(timed, 3)
    (other,) = enqueue_many(timed, 1)
    timed.store.take(claim(timed), Taker("chat", "living-process", 30_000))
    assert timed.maintenance.rescue_owned("dead-process") == 3
    assert statuses(timed, dead) == ["failed_retryable"] * 3
    assert statuses(timed, [other]) == ["sending"]
    assert timed.maintenance.rescue_owned("dead-process") == 0


def test_rescue_of_a_dead_process_is_not_bounded_by_one_batch(timed: Outbox) -> None:
    dead = die_while_sending(timed, 5)
    small = Maintenance(timed.store, timed.channels, timed.telemetry, Retention(), batch=2)
    assert small.rescue_owned("dead-process") == 5
    assert statuses(timed, dead) == ["failed_retryable"] * 5


def test_after_a_proven_death_the_first_retry_does_not_wait(timed: Outbox, clock: FakeClock) -> None:
    (message_id,) = die_while_sending(timed)
    timed.maintenance.rescue_owned("dead-process")
    assert Row(timed, message_id).next_attempt_at == clock.now


def test_rows_being_sent_of_a_channel_that_is_gone_are_parked(timed: Outbox, clock: FakeClock) -> None:
    final, tool = die_while_sending(timed) + die_while_sending(timed, dispatch_kind="tool")
    for message_id in (final, tool):
        put(timed, message_id, channel="gone")
    clock.advance(30_001)
    assert timed.maintain_once()["rescue"] == 2
    assert (Row(timed, final).status, Row(timed, final).outcome_unknown) == ("parked", 1)
    assert "not registered any more" in Row(timed, final).last_error
    assert (Row(timed, tool).status, Row(timed, tool).terminal_reason) == ("failed_terminal", "non_final_recovery_skip")


def test_an_application_that_knows_no_channel_leaves_the_workers_rows_alone(
    timed: Outbox, open_outbox: OpenOutbox, clock: FakeClock
) -> None:
    (message_id,) = die_while_sending(timed)
    clock.advance(30_001)
    enqueuer = open_outbox(clock=clock)
    assert enqueuer.maintain_once()["rescue"] == 0
    assert Row(timed, message_id).status == "sending"


def test_t9_a_live_send_within_its_lease_is_left_alone(timed: Outbox, clock: FakeClock) -> None:
    held = Held()
    timed.register(Chat("slow", behaviour=held, timeout=30))
    (message_id,) = enqueue_many(timed, 1, channel="slow")
    task = InThread(lambda: deliver(timed, channel="slow"))
    assert held.entered.wait(WAIT_S)
    clock.advance(39_000)
    assert timed.maintain_once()["rescue"] == 0
    held.let_go.set()
    task.result()
    assert Row(timed, message_id).status == "delivered"


def test_t27_what_is_over_is_pruned_from_the_schedule_after_its_retention(timed: Outbox, clock: FakeClock) -> None:
    _delivered, failed = enqueue_many(timed, 2)
    timed.drain()
    put(timed, failed, status="failed_terminal", delivered_at=None)
    clock.advance(48 * HOUR + 1)
    assert timed.maintain_once()["prune"] == 1
    assert [message.id for message in timed.list()] == [failed]
    clock.advance(28 * 24 * HOUR)
    assert timed.maintain_once()["prune"] == 1
    assert timed.list() == []


def test_r7_what_is_not_over_is_never_pruned(timed: Outbox, clock: FakeClock) -> None:
    ids = enqueue_many(timed, 3)
    put(timed, ids[0], status="parked")
    put(timed, ids[1], status="failed_retryable")
    clock.advance(365 * 24 * HOUR)
    timed.maintain_once()
    assert len(timed.list()) == 3


def test_times_further_ahead_than_the_engine_writes_are_brought_back(timed: Outbox, clock: FakeClock) -> None:
    timed.register(Chat("failing", behaviour=raising(RetryLater("busy")), backoff=Backoff((600,), jitter=0)))
    (message_id,) = enqueue_many(timed, 1, channel="failing")
    deliver(timed, channel="failing")
    clock.advance(-24 * HOUR)
    assert timed.maintain_once()["unfuture"] >= 1
    assert Row(timed, message_id).next_attempt_at <= clock.now + HOUR


def test_a_channels_own_long_backoff_is_not_cut_short(timed: Outbox, clock: FakeClock) -> None:
    timed.register(Chat("patient", behaviour=raising(RetryLater("busy")), backoff=Backoff((86_400,), jitter=0)))
    (message_id,) = enqueue_many(timed, 1, channel="patient")
    deliver(timed, channel="patient")
    timed.maintain_once()
    assert Row(timed, message_id).next_attempt_at == clock.now + 24 * HOUR


def test_a_lost_blocked_mark_is_mended(timed: Outbox) -> None:
    ids = enqueue_many(timed, 2, ordering_key="k")
    put(timed, ids[0], blocked=1)
    assert claim(timed) == []
    assert timed.maintain_once()["mend"] == 1
    assert len(claim(timed)) == 2


def test_each_service_goes_on_until_it_finds_nothing_more(timed: Outbox, clock: FakeClock) -> None:
    ids = enqueue_many(timed, 7, expires_in=1)
    clock.advance(1_001)
    small = Maintenance(timed.store, timed.channels, timed.telemetry, Retention(), batch=2)
    events = Events(timed)
    assert small.run_once(budget_s=60)["expire"] == 7
    assert [(event.service, event.rows) for event in events.of(Maintained)] == [("expire", 7)]
    assert set(statuses(timed, ids)) == {"expired"}


def test_r9_a_pass_that_is_told_to_stop_ends_after_one_batch_each(timed: Outbox, clock: FakeClock) -> None:
    enqueue_many(timed, 7, expires_in=1)
    clock.advance(1_001)
    small = Maintenance(timed.store, timed.channels, timed.telemetry, Retention(), batch=2)
    assert small.run_once(should_stop=lambda: True)["expire"] == 2


def failing(name: str, error: Exception) -> Service:
    def run(_limit: int) -> int:
        raise error

    return Service(name, run)


def test_invariant_12_a_service_that_fails_does_not_stop_the_others(timed: Outbox, clock: FakeClock) -> None:
    (message_id,) = enqueue_many(timed, 1, expires_in=1)
    clock.advance(1_001)
    timed.maintenance.services = [failing("first", DatabaseBusy("locked")), *timed.maintenance.services]
    with pytest.raises(DatabaseBusy, match="locked"):
        timed.maintain_once()
    assert Row(timed, message_id).status == Status.EXPIRED


def test_all_that_failed_is_told_together(timed: Outbox) -> None:
    timed.maintenance.services = [failing("first", DatabaseBusy("locked")), failing("second", ValueError("odd"))]
    with pytest.raises(ExceptionGroup) as told:
        timed.maintain_once()
    assert [type(error) for error in told.value.exceptions] == [DatabaseBusy, ValueError]


def test_invariant_11_maintenance_may_run_any_number_of_times_at_once(open_outbox: OpenOutbox) -> None:
    outboxes = [open_outbox() for _ in range(3)]
    for outbox in outboxes:
        outbox.register(Chat())
    ids = die_while_sending(outboxes[0], 20)
    for message_id in ids:
        put(outboxes[0], message_id, lease_until=0)
    passes = [InThread(outbox.maintain_once) for outbox in outboxes]
    assert sum(each.result()["rescue"] for each in passes) == 20
    assert {(row.status, row.attempt_count, row.lease) for row in rows(outboxes[0], ids)} == {("failed_retryable", 1, 1)}
