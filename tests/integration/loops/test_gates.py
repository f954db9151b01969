"""What a message costs over its whole life: exact numbers, so that a change that costs more is seen before it is timed.

A number that falls is worth writing down here; one that grows needs a reason.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, text

from outbox import NewMessage, Outbox
from outbox.lifecycle import Status
from outbox.policy.destination import Limits
from outbox.policy.retry import Verdict
from outbox.store import claiming, settling, taking
from outbox.store.records import Lane, Settlement, Taker
from tests.contract.statements import recorded
from tests.integration.loops.scene import Chat, deliver, enqueue, enqueue_many, statuses
from tests.integration.loops.test_costs import (
    _groups_close_by_size_alone,  # noqa: F401 - here too
    cost,
    relayed,
)

DELIVERING = {1: (2.0, 2.0), 100: (0.02, 0.02)}
"""By the rows a task: statements and commits a delivered message that its delivery task costs."""
RELAYING = {1: (0.06, 0.03), 100: (0.06, 0.03)}
"""By the rows a task: statements and commits a message that a relay pass over 100 of them costs."""
ENQUEUEING_STATEMENTS = 1
"""In the caller's transaction, whose commit it is."""
ENQUEUEING_MANY_STATEMENTS = 1
"""Of a thousand messages without idempotency keys."""
READ_A_CLAIMED_ROW = 4
"""Rows that PostgreSQL fetches from the messages table for each row that it claims, at most: to find it, to lock it, to
check it again and to write it."""
TO_SEE_THE_END = 2
"""Rows on PostgreSQL, steps on SQLite, by which a claim notices that the next row is due later."""
BROKER_MESSAGES_A_THOUSAND = {1: 1000, 100: 10}
"""By the rows a task."""

CLAIMED = 100
IN_TURN = 10
"""Messages of one ordering key that are delivered together."""
LANE = Lane("chat", 0, 0)
TERMINAL_ROWS = 2_000


@pytest.mark.parametrize("size", [1, 100])
def test_a_delivered_message_costs_so_many_statements_and_commits(outbox: Outbox, size: int) -> None:
    outbox.register(Chat(batch_size=size, concurrency=size))
    ids = enqueue_many(outbox, 100)
    with cost(outbox) as relaying:
        capture = relayed(outbox)
    assert (relaying.statements / 100, relaying.commits / 100) == RELAYING[size]
    with cost(outbox) as delivering:
        for batch in capture.batches:
            deliver(outbox, batch.claims)
    assert (delivering.statements / 100, delivering.commits / 100) == DELIVERING[size]
    assert set(statuses(outbox, ids)) == {"delivered"}


def test_an_enqueue_adds_one_statement_to_the_callers_transaction_and_commits_nothing(outbox: Outbox) -> None:
    outbox.register(Chat())
    with outbox.store.transaction() as tx, cost(outbox) as spent:
        outbox.enqueue(tx.connection, "chat", target="1", payload={"text": "On its way"}, ordering_key="1")
    assert (spent.statements, spent.commits) == (ENQUEUEING_STATEMENTS, 0)


def test_a_thousand_messages_are_enqueued_by_one_statement(outbox: Outbox) -> None:
    outbox.register(Chat())
    with recorded(outbox.store) as sent:
        enqueue(outbox, *(NewMessage(channel="chat", target="1") for _ in range(1000)))
    assert len(sent) == ENQUEUEING_MANY_STATEMENTS


@pytest.mark.parametrize("size", [1, 100])
def test_a_thousand_rows_cost_so_many_broker_messages(outbox: Outbox, size: int) -> None:
    outbox.register(Chat(batch_size=size))
    enqueue_many(outbox, 1000)
    assert len(relayed(outbox).batches) == BROKER_MESSAGES_A_THOUSAND[size]


def test_a_claim_reads_what_it_claims_and_nothing_beside(outbox: Outbox) -> None:
    outbox.register(Chat())
    enqueue_many(outbox, CLAIMED)
    alone = rows_read_by_a_claim(outbox)
    add_terminal_rows(outbox)
    enqueue_many(outbox, CLAIMED, delay=3600.0)
    assert rows_read_by_a_claim(outbox) <= alone + TO_SEE_THE_END
    if outbox.store.engine.dialect.name == "postgresql":
        assert alone <= READ_A_CLAIMED_ROW * CLAIMED


@pytest.mark.parametrize("verb", ["claim", "take", "settle"])
def test_of_an_ordering_key_only_those_in_turn_are_read_however_many_wait_behind_them(outbox: Outbox, verb: str) -> None:
    outbox.register(Chat())
    enqueue_many(outbox, 2 * CLAIMED, ordering_key="talk")
    alone = rows_read_in_turn(outbox, verb)
    enqueue_many(outbox, 10 * CLAIMED, ordering_key="talk")
    assert rows_read_in_turn(outbox, verb) <= alone + TO_SEE_THE_END


def rows_read_by_a_claim(outbox: Outbox) -> int:
    """What a claim of all due rows fetches on PostgreSQL; on SQLite, the steps of its machine. The claim is rolled back."""
    with outbox.store.transaction() as tx:
        with reading(tx.connection) as read:
            claimed = claiming.claim(tx, LANE, 2 * CLAIMED, Limits(max_in_flight=10**6)).claims
        assert len(claimed) == CLAIMED
        tx.connection.rollback()
    return read[0]


def rows_read_in_turn(outbox: Outbox, verb: str) -> int:
    """The same of one of the three transactions in which some messages of a key are delivered together. All is rolled back."""
    read = {}
    met = CLAIMED if verb == "claim" else 100 * CLAIMED  # and all but those in turn are marked as blocked
    with outbox.store.transaction() as tx:
        with reading(tx.connection) as read["claim"]:
            claims = claiming.claim(tx, LANE, met, Limits(max_in_flight=10**6, per_key=IN_TURN)).claims
        with reading(tx.connection) as read["take"]:
            messages = taking.take(tx, claims, Taker("chat", "worker", 60_000))
        settlements = [Settlement(message.id, message.lease, Verdict(Status.DELIVERED), "delivered") for message in messages]
        with reading(tx.connection) as read["settle"]:
            settled = settling.settle(tx, settlements)
        assert len(settled.recorded) == IN_TURN
        tx.connection.rollback()
    return read[verb][0]


@contextmanager
def reading(connection: Connection) -> Iterator[list[int]]:
    """What is read meanwhile: rows on PostgreSQL, steps on SQLite."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("set local enable_seqscan = off"))  # which pays for so few rows
    with READING[connection.dialect.name](connection) as read:
        yield read


@contextmanager
def rows_fetched(connection: Connection) -> Iterator[list[int]]:
    fetched = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'message_outbox'"
    asked = text(fetched)
    before = connection.execute(asked).scalar_one()
    read = [0]
    yield read
    read[0] = connection.execute(asked).scalar_one() - before


@contextmanager
def machine_steps(connection: Connection) -> Iterator[list[int]]:
    read = [0]

    def step() -> int:
        read[0] += 1
        return 0

    driver = connection.connection.driver_connection
    assert driver is not None
    driver.set_progress_handler(step, 1)
    try:
        yield read
    finally:
        driver.set_progress_handler(None, 1)


READING = {"postgresql": rows_fetched, "sqlite": machine_steps}


def add_terminal_rows(outbox: Outbox) -> None:
    enqueue_many(outbox, TERMINAL_ROWS, delay=1.0)
    with outbox.store.transaction() as tx:
        settled = "update message_outbox set status = 'delivered', completed_at = queued_at where next_attempt_at > queued_at"
        assert tx.connection.execute(text(settled)).rowcount == TERMINAL_ROWS
