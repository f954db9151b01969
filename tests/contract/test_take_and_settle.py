"""``take``, ``settle`` and ``extend``: an attempt from its charge to its outcome."""

import time

import pytest

from outbox.lifecycle import Status
from outbox.message import Claim
from outbox.policy.retry import Verdict
from outbox.store.records import Settled, Settlement, Taker
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.conftest import OpenStore
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DEFERRED,
    DELIVERED,
    NOW,
    PARKED,
    RETRY,
    RUN_LEASE_MS,
    SECOND,
    WITHHELD,
    begin,
    begin_again,
    claim,
    enqueue,
    enqueue_named,
    ids,
    new_row,
    settle,
    settlement,
    statuses,
    stored,
    take,
)


@pytest.mark.proves("T12")
def test_t12_invariant_4_the_attempt_is_charged_at_take_before_any_io(store: SQLStore) -> None:
    message = begin(store, "m")
    assert (message.status, message.attempt_count, message.lease) == (Status.SENDING, 1, 1)
    assert (message.last_attempt_at, message.lease_until, message.lease_owner) == (NOW, NOW + RUN_LEASE_MS, "worker-1")
    assert stored(store, "m").attempt_count == 1


def test_take_returns_rows_in_seq_order_whatever_the_order_of_the_claims(store: SQLStore) -> None:
    enqueue_named(store, "c", "a", "b")
    assert ids(take(store, list(reversed(claim(store))))) == ["c", "a", "b"]


def test_take_of_nothing_and_of_an_unknown_id_is_nothing(store: SQLStore) -> None:
    assert take(store, []) == []
    assert take(store, [Claim("unknown", 0)]) == []


def test_an_expired_row_is_not_taken_and_not_given_back(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", ttl_ms=SECOND)
    claims = claim(store)
    clock.advance(SECOND + 1)
    assert take(store, claims) == []
    assert statuses(store) == {"m": "dispatched"}
    assert store.expire(100) == 1


def test_a_row_at_exactly_its_age_is_taken(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", ttl_ms=SECOND)
    claims = claim(store)
    clock.advance(SECOND)
    assert ids(take(store, claims)) == ["m"]


@pytest.mark.proves("R11")
@pytest.mark.parametrize("kind", ["block", "tool"])
def test_r11_a_non_final_message_with_an_attempt_on_record_is_never_taken_again(store: SQLStore, kind: str) -> None:
    enqueue_named(store, "m", dispatch_kind=kind)
    claims = claim(store)
    with store.transaction() as tx:
        tx.connection.execute(store.tables.messages.update().values(attempt_count=1))
    assert take(store, claims) == []


@pytest.mark.proves("R11", "T23")
def test_t23_the_database_leaves_out_what_is_not_final_before_anything_is_loaded(store: SQLStore) -> None:
    kinds = ("final", "block", "tool", None)
    for kind in kinds:
        enqueue_named(store, str(kind), dispatch_kind=kind, payload='{"dispatch_kind":"final"}')
    claims = claim(store)
    with store.transaction() as tx:
        tx.connection.execute(store.tables.messages.update().values(attempt_count=1))
    assert ids(take(store, claims)) == ["final", "None"]
    assert {name for name, status in statuses(store).items() if status == "sending"} == {"final", "None"}


@pytest.mark.proves("R4")
def test_r4_a_delivery_is_on_record_with_its_times_and_its_receipt(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    clock.advance(250)
    assert settle(store, message, DELIVERED, receipt='{"provider_id":"42"}') == Settled(recorded=frozenset({"m"}))
    row = stored(store, "m")
    assert (row.status, row.delivered_at, row.completed_at) == ("delivered", NOW + 250, NOW + 250)
    assert (row.receipt, row.terminal_reason, row.lease_until) == ('{"provider_id":"42"}', None, None)


@pytest.mark.proves("T26")
def test_a_failed_attempt_is_due_again_after_its_delay_with_its_error(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    clock.advance(100)
    settle(store, message, RETRY)
    row = stored(store, "m")
    assert (row.status, row.attempt_count, row.lease) == ("failed_retryable", 1, 1)
    assert (row.last_error, row.error_class) == ("HTTP 503", "transient")
    assert (row.next_attempt_at, row.completed_at, row.lease_until) == (NOW + 100 + 5 * SECOND, None, None)


@pytest.mark.proves("T6", "R5")
def test_t6_r5_a_permanent_failure_keeps_error_class_count_and_time(store: SQLStore) -> None:
    settle(store, begin(store, "m"), DEAD)
    row = stored(store, "m")
    assert (row.status, row.last_error, row.error_class) == ("failed_terminal", "HTTP 400", "permanent")
    assert (row.attempt_count, row.last_attempt_at, row.completed_at) == (1, NOW, NOW)
    assert row.terminal_reason == "permanent failure"


@pytest.mark.proves("T4")
def test_t4_invariant_8_a_withheld_message_is_cancelled_with_its_reason_and_never_delivered(store: SQLStore) -> None:
    settle(store, begin(store, "m"), WITHHELD)
    row = stored(store, "m")
    assert (row.status, row.terminal_reason, row.delivered_at, row.completed_at) == ("cancelled", "nothing to say", None, NOW)


def test_a_parked_row_waits_with_its_reason_and_is_not_complete(store: SQLStore) -> None:
    settle(store, begin(store, "m"), PARKED)
    row = stored(store, "m")
    assert (row.status, row.terminal_reason, row.completed_at, row.outcome_unknown) == ("parked", "unknown outcome", None, 1)


@pytest.mark.proves("T14")
def test_t14_invariant_4_what_was_not_an_attempt_is_refunded_and_the_lease_still_grows(store: SQLStore) -> None:
    settle(store, begin(store, "m"), DEFERRED)
    row = stored(store, "m")
    assert (row.status, row.attempt_count, row.lease) == ("queued", 0, 2)
    assert row.next_attempt_at == NOW + 5 * SECOND
    assert store.attempts("m") == []


def test_a_deferral_keeps_the_error_of_the_attempt_before_it(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "m"), RETRY)
    clock.advance(5 * SECOND)
    settle(store, begin_again(store, "m"), Verdict(Status.FAILED_RETRYABLE, 0, reason="not connected", charged=False))
    row = stored(store, "m")
    assert (row.attempt_count, row.last_error, row.error_class) == (1, "HTTP 503", "transient")


def test_an_unknown_outcome_sticks_until_something_says_otherwise(store: SQLStore, clock: FakeClock) -> None:
    first = begin(store, "m")
    settle(store, first, Verdict(Status.FAILED_RETRYABLE, 0, "no answer", outcome_unknown=True))
    settle(store, begin_again(store, "m"), Verdict(Status.FAILED_RETRYABLE, 0, "HTTP 503"))
    assert stored(store, "m").outcome_unknown == 1
    settle(store, begin_again(store, "m"), Verdict(Status.FAILED_RETRYABLE, 0, "HTTP 503", outcome_unknown=False))
    assert stored(store, "m").outcome_unknown == 0


def test_a_group_of_all_kinds_of_outcomes_is_settled_together(store: SQLStore) -> None:
    enqueue_named(store, "a", "b", "c", "d", "e")
    verdicts = (DELIVERED, RETRY, DEAD, PARKED, DEFERRED)
    messages = take(store, claim(store))
    settled = store.settle([settlement(message, verdict) for message, verdict in zip(messages, verdicts, strict=True)])
    assert (settled.recorded, settled.lost) == (frozenset("abcde"), frozenset())
    assert statuses(store) == {
        "a": "delivered", "b": "failed_retryable", "c": "failed_terminal", "d": "parked", "e": "queued",
    }  # fmt: skip


def test_settling_nothing_is_nothing(store: SQLStore) -> None:
    assert store.settle([]) == Settled()


def test_settle_and_take_records_before_it_begins(store: SQLStore) -> None:
    enqueue_named(store, "first", "second", ordering_key="chat")
    first, second = claim(store)
    (message,) = take(store, [first])
    settled, taken = store.settle_and_take([settlement(message, DELIVERED)], [second], Taker(CHANNEL, "worker-1", RUN_LEASE_MS))
    assert (settled.recorded, ids(taken)) == ({"first"}, ["second"])


def test_a_claim_of_another_channels_row_is_refused(store: SQLStore) -> None:
    enqueue(store, new_row(id="m"))
    claims = claim(store)
    assert store.take(claims, Taker("another", "worker-1", RUN_LEASE_MS)) == []
    assert (stored(store, "m").lease, stored(store, "m").attempt_count) == (0, 0)
    assert ids(take(store, claim(store))) == ["m"]


def test_each_failed_attempt_leaves_one_line_in_the_log(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "m"), RETRY, outcome="retry")
    clock.advance(5 * SECOND)
    message = begin_again(store, "m")
    clock.advance(70)
    settle(store, message, DEAD, outcome="rejected")
    first, second = store.attempts("m")
    assert (first.number, first.lease, first.outcome, first.error) == (1, 1, "retry", "HTTP 503")
    assert (second.number, second.lease, second.outcome, second.error_class) == (2, 2, "rejected", "permanent")
    assert (second.started_at, second.finished_at, second.owner) == (NOW + 5 * SECOND, NOW + 5 * SECOND + 70, "worker-1")


def test_a_success_is_logged_only_where_that_is_switched_on(store: SQLStore, outbox_url: str, open_on: OpenStore) -> None:
    settle(store, begin(store, "quiet"), DELIVERED)
    talkative = open_on(outbox_url, clock=store.sql.clock, log_successes=True)
    settle(talkative, begin(talkative, "told"), DELIVERED, outcome="delivered")
    assert store.attempts("quiet") == []
    assert [line.outcome for line in store.attempts("told")] == ["delivered"]


def test_a_heartbeat_moves_the_lease_from_now(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    clock.advance(10 * SECOND)
    assert store.extend([message], run_lease_ms=RUN_LEASE_MS, longest_ms=120 * SECOND) == {"m"}
    assert stored(store, "m").lease_until == NOW + 10 * SECOND + RUN_LEASE_MS


def test_a_heartbeat_never_moves_the_lease_past_the_limit_of_the_attempt(store: SQLStore, clock: FakeClock) -> None:
    message = begin(store, "m")
    clock.advance(29 * SECOND)
    assert store.extend([message], run_lease_ms=RUN_LEASE_MS, longest_ms=40 * SECOND) == {"m"}
    assert stored(store, "m").lease_until == NOW + 40 * SECOND


def test_a_heartbeat_of_a_row_that_somebody_else_holds_or_ended_is_missed(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "held", "rescued", "delivered")
    held, rescued, delivered = take(store, claim(store))
    settle(store, delivered, DELIVERED)
    settle(store, rescued, RETRY)
    clock.advance(5 * SECOND)
    begin_again(store, "rescued")
    assert store.extend([held, rescued, delivered], run_lease_ms=RUN_LEASE_MS, longest_ms=120 * SECOND) == {"held"}


def test_a_heartbeat_of_nothing_holds_nothing(store: SQLStore) -> None:
    assert store.extend([], run_lease_ms=RUN_LEASE_MS, longest_ms=RUN_LEASE_MS) == set()


@pytest.mark.parametrize("verdict", [DELIVERED, RETRY, DEAD, PARKED, DEFERRED, WITHHELD])
def test_an_outcome_that_stands_is_recognised_after_an_ambiguous_commit(store: SQLStore, verdict: Verdict) -> None:
    outcome = settlement(begin(store, "m"), verdict)
    assert store.already_settled([outcome]) == frozenset()
    store.settle([outcome])
    assert store.already_settled([outcome, Settlement("unknown", 1, verdict, "ended")]) == {"m"}


def test_an_outcome_of_an_earlier_lease_does_not_pass_for_the_one_that_stands(store: SQLStore, clock: FakeClock) -> None:
    first = begin(store, "m")
    settle(store, first, RETRY)
    clock.advance(5 * SECOND)
    settle(store, begin_again(store, "m"), RETRY)
    assert store.already_settled([settlement(first, RETRY)]) == frozenset()


def test_invariant_10_an_error_keeps_its_text_through_success(store: SQLStore, clock: FakeClock) -> None:
    settle(store, begin(store, "m"), RETRY)
    clock.advance(5 * SECOND)
    settle(store, begin_again(store, "m"), DELIVERED)
    assert (stored(store, "m").status, stored(store, "m").last_error) == ("delivered", "HTTP 503")


def test_a_long_text_in_any_language_is_recorded_as_it_is(store: SQLStore) -> None:
    error = "503 – サービス利用不可 \" ' \\ %(x)s " * 500
    settle(store, begin(store, "m"), Verdict(Status.FAILED_RETRYABLE, 0, error))
    assert stored(store, "m").last_error == error


def test_the_databases_own_clock_times_an_attempt(live_store: SQLStore) -> None:
    message = begin(live_store, "m")
    assert message.last_attempt_at is not None
    assert message.lease_until is not None
    assert abs(message.lease_until - message.last_attempt_at - RUN_LEASE_MS) < SECOND
    settle(live_store, message, DELIVERED)
    row = stored(live_store, "m")
    assert message.queued_at <= message.last_attempt_at <= row.delivered_at <= row.completed_at


def test_times_are_milliseconds_since_the_epoch_whatever_the_servers_time_zone(live_store: SQLStore) -> None:
    before = time.time_ns() // 1_000_000 - 1
    enqueue(live_store, new_row(id="m"))
    assert before <= stored(live_store, "m").queued_at <= time.time_ns() // 1_000_000 + 1
