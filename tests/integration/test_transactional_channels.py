"""A channel whose whole effect is in the outbox's own database happens exactly once."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from outbox import Attempt, Message, Outbox, Receipt
from outbox.errors import ConfigurationError
from outbox.lifecycle import Status
from outbox.policy.retry import Backoff


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    outbox.upgrade_schema()
    with outbox.store.engine.begin() as connection:
        connection.execute(text("create table ledger (message_id text, attempt integer)"))
    yield outbox
    outbox.close()


def enter(message: Message, attempt: Attempt) -> Receipt:
    attempt.session.execute(text("insert into ledger values (:id, :attempt)"), {"id": message.id, "attempt": attempt.number})
    return Receipt(provider_id="entry")


def ledger(outbox: Outbox) -> list[str]:
    with outbox.store.engine.connect() as connection:
        return list(connection.execute(text("select message_id from ledger")).scalars())


def enqueue(outbox: Outbox, count: int = 1) -> list[str]:
    with Session(outbox.store.engine) as session, session.begin():
        return [outbox.enqueue(session, "ledger", payload={"n": n}).id for n in range(count)]


def test_the_effect_and_the_settle_commit_together(outbox: Outbox) -> None:
    outbox.channel("ledger", transactional=True)(enter)
    ids = enqueue(outbox, 3)

    outbox.drain()

    assert sorted(ledger(outbox)) == sorted(ids)
    assert [(m.status, m.receipt["provider_id"]) for m in outbox.list()] == [(Status.DELIVERED, "entry")] * 3


def test_a_handler_that_fails_leaves_neither_effect_nor_delivery(outbox: Outbox) -> None:
    def enter_and_fail(message: Message, attempt: Attempt) -> None:
        enter(message, attempt)
        raise RuntimeError("changed its mind")

    outbox.channel("ledger", transactional=True)(enter_and_fail)
    enqueue(outbox)

    outbox.drain()

    (message,) = outbox.list()
    assert ledger(outbox) == []
    assert (message.status, message.last_error) == (Status.FAILED_RETRYABLE, "RuntimeError: changed its mind")


def test_a_time_out_inside_the_handler_is_no_unknown_outcome_because_all_of_it_is_undone(outbox: Outbox) -> None:
    def enter_and_time_out(message: Message, attempt: Attempt) -> None:
        enter(message, attempt)
        raise TimeoutError("some inner thing took too long")

    outbox.channel("ledger", transactional=True, on_unknown="park")(enter_and_time_out)
    enqueue(outbox)

    outbox.drain()

    (message,) = outbox.list()
    assert (message.status, message.outcome_unknown) == (Status.FAILED_RETRYABLE, False)
    assert ledger(outbox) == []


def test_work_for_a_row_that_somebody_else_took_meanwhile_is_undone(outbox: Outbox) -> None:
    """The lease ran out during the work, the row was rescued, and another worker began it."""
    calls = []

    def enter_late(message: Message, attempt: Attempt) -> None:
        calls.append(attempt.number)
        if attempt.number == 1:
            # What a rescue and a second take do to the row, seen from within the slow first attempt's transaction.
            bump = text("update message_outbox set lease = lease + 1, status = 'failed_retryable' where id = :id")
            attempt.session.execute(bump, {"id": message.id})
        enter(message, attempt)

    outbox.channel("ledger", transactional=True, backoff=Backoff((0,)))(enter_late)
    enqueue(outbox)

    outbox.drain()

    assert calls == [1, 2]
    assert len(ledger(outbox)) == 1
    assert [m.status for m in outbox.list()] == [Status.DELIVERED]


def test_an_async_transactional_channel_is_refused_at_registration(outbox: Outbox) -> None:
    with pytest.raises(ConfigurationError, match="transactional"):

        @outbox.channel("ledger", transactional=True)
        async def enter_async(message: Message, attempt: Attempt) -> None: ...
