"""The reading verbs: what operators and metrics see, and the liveness query."""

import pytest
from sqlalchemy import select

from outbox.lifecycle import Status
from outbox.store.records import MessageFilter
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.concurrency import result, waiting
from tests.contract.conftest import OpenStore
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DELIVERED,
    MINUTE,
    NOW,
    PARKED,
    begin,
    claim,
    enqueue,
    enqueue_named,
    ids,
    new_row,
    put,
    settle,
    take,
)


def test_find_returns_the_message_or_nothing(store: SQLStore) -> None:
    enqueue_named(store, "m")
    message = store.find("m")
    assert message is not None
    assert (message.id, message.status) == ("m", Status.QUEUED)
    assert store.find("nobody") is None


def test_messages_are_listed_newest_first_and_page_by_page(store: SQLStore) -> None:
    enqueue_named(store, "1", "2", "3", "4", "5")
    first = store.list_messages(MessageFilter(), 2)
    second = store.list_messages(MessageFilter(before_seq=first[-1].seq), 2)
    assert (ids(first), ids(second)) == (["5", "4"], ["3", "2"])


@pytest.mark.proves("R16")
def test_r16_messages_are_found_by_status_channel_target_turn_and_id(store: SQLStore) -> None:
    enqueue_named(store, "plain")
    enqueue_named(store, "email", channel="email")
    enqueue_named(store, "target", target="x")
    enqueue_named(store, "turn", turn_id="t")
    settle(store, begin(store, "dead"), DEAD)

    def found(**fields: object) -> list[str]:
        return sorted(ids(store.list_messages(MessageFilter(**fields), 100)))  # type: ignore[arg-type]

    assert found(status=Status.FAILED_TERMINAL) == ["dead"]
    assert found(channel="email") == ["email"]
    assert found(target="x") == ["target"]
    assert found(turn_id="t") == ["turn"]
    assert found(ids=["plain", "turn", "nobody"]) == ["plain", "turn"]
    assert found(channel=CHANNEL, target="x", status=Status.DELIVERED) == []


@pytest.mark.proves("R16")
def test_r16_stats_count_by_channel_and_status_with_the_age_of_the_oldest_due_row(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "a", "b")
    enqueue_named(store, "later", delay_ms=60 * MINUTE)
    settle(store, begin(store, "e", channel="email"), DELIVERED)
    clock.advance(MINUTE)
    email, webhook = store.stats()
    assert (email.channel, email.by_status, email.oldest_due_age_ms) == ("email", {Status.DELIVERED: 1}, None)
    assert (webhook.channel, webhook.by_status, webhook.oldest_due_age_ms) == (CHANNEL, {Status.QUEUED: 3}, MINUTE)


def test_a_blocked_row_counts_as_due_in_the_stats(store: SQLStore, clock: FakeClock) -> None:
    begin(store, "1", ordering_key="chat")
    enqueue_named(store, "2", ordering_key="chat")
    claim(store)
    clock.advance(MINUTE)
    (webhook,) = store.stats()
    assert webhook.oldest_due_age_ms == MINUTE


@pytest.mark.proves("R16")
def test_r16_a_turn_counts_its_final_messages_only(store: SQLStore) -> None:
    settle(store, begin(store, "delivered", turn_id="t"), DELIVERED)
    settle(store, begin(store, "parked", turn_id="t"), PARKED)
    enqueue_named(store, "null", turn_id="t", dispatch_kind=None)
    enqueue_named(store, "tool", turn_id="t", dispatch_kind="tool")
    enqueue_named(store, "block", turn_id="t", dispatch_kind="block")
    enqueue_named(store, "other", turn_id="u")
    assert store.turn("t") == {Status.DELIVERED: 1, Status.PARKED: 1, Status.QUEUED: 1}
    assert store.turn("nobody") == {}


def test_channels_in_use_are_those_with_active_messages(store: SQLStore) -> None:
    settle(store, begin(store, "done", channel="done"), DELIVERED)
    settle(store, begin(store, "held", channel="held"), PARKED)
    enqueue(store, new_row(), new_row())
    assert store.channels_in_use() == {CHANNEL: 2, "held": 1}


def test_the_stores_clock_is_the_one_that_decides_what_is_due(store: SQLStore) -> None:
    assert store.now_ms() == NOW


def test_postgresql_reads_its_own_clock_at_each_statement_and_not_once_a_transaction(
    postgres_outbox_url: str, open_on: OpenStore
) -> None:
    store = open_on(postgres_outbox_url)
    with store.transaction() as tx:
        first = tx.execute(select(store.sql.now)).scalar_one()
        while tx.execute(select(store.sql.now)).scalar_one() == first:
            pass


def test_the_time_is_read_once_the_write_lock_is_held(sqlite_outbox_url: str, open_on: OpenStore, clock: FakeClock) -> None:
    one, other = open_on(sqlite_outbox_url, clock=clock), open_on(sqlite_outbox_url, clock=clock)
    enqueue_named(one, "m")
    claims = claim(one)
    with one.transaction():
        taken = waiting(other, take, other, claims)
        clock.advance(MINUTE)
    (message,) = result(taken)
    assert message.last_attempt_at == NOW + MINUTE


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"status": "dispatched", "lease_until": None}, "looked at again"),
        ({"status": "sending", "lease_until": None}, "looked at again"),
        ({"blocked": 1, "ordering_key": None}, "without an ordering key"),
        ({"status": "delivered", "completed_at": None}, "never pruned"),
        ({"completed_at": NOW}, "completed"),
        ({"max_attempts": None}, "attempts"),
        ({"status": "lost"}, "does not exist"),
        ({"status": "failed_retryable", "stamped": 0}, "never stamped"),
        ({"dispatch_kind": "tool", "attempt_count": 1}, "never sent again"),
    ],
)
def test_invariant_6_the_liveness_query_finds_a_row_that_nothing_will_look_at_again(
    store: SQLStore, broken: dict[str, object], told: str
) -> None:
    enqueue_named(store, "sound", "broken")
    assert store.violations(10) == []
    put(store, "broken", **broken)
    (violation,) = store.violations(10)
    assert violation.id == "broken"
    assert told in violation.problem


def test_the_liveness_query_is_bounded(store: SQLStore) -> None:
    enqueue(store, *(new_row(max_attempts=None) for _ in range(5)))
    assert len(store.violations(3)) == 3
