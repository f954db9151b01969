"""What delivering costs the database, from the relay's look to the last record: a number that grows is a regression."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import event

from outbox import Outbox
from outbox.relay import Relay
from tests.contract.statements import recorded
from tests.integration.loops.scene import Capture, Chat, deliver, enqueue_many, statuses


@dataclass
class Cost:
    """Statements and commits, those of transactions that only read among them."""

    statements: int = 0
    commits: int = 0


@contextmanager
def cost(outbox: Outbox) -> Iterator[Cost]:
    """What the block costs."""
    spent = Cost()

    def note(_connection: object) -> None:
        spent.commits += 1

    engine = outbox.store.engine
    event.listen(engine, "commit", note)
    try:
        with recorded(outbox.store) as sent:
            yield spent
    finally:
        event.remove(engine, "commit", note)
    spent.statements = len(sent)


@pytest.fixture(autouse=True)
def _groups_close_by_size_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that stumbles, a group of outcomes would be written when it is old, in two parts."""
    monkeypatch.setattr("outbox.unwritten.GROUP_AGE_S", 3600.0)


@pytest.mark.parametrize("size", [1, 100])
def test_a_delivery_task_takes_once_and_settles_once_whatever_its_size(outbox: Outbox, size: int) -> None:
    outbox.register(Chat(batch_size=size, concurrency=size))
    ids = enqueue_many(outbox, 3 * size)
    tasks = relayed(outbox)
    assert [len(batch.claims) for batch in tasks.batches] == [size] * 3
    for batch in tasks.batches:
        with cost(outbox) as spent:
            deliver(outbox, batch.claims)
        assert spent == Cost(statements=2, commits=2)
    assert set(statuses(outbox, ids)) == {"delivered"}


def test_a_window_is_settled_with_the_take_of_the_next(outbox: Outbox) -> None:
    outbox.register(Chat(batch_size=100, concurrency=1))
    ids = enqueue_many(outbox, 10)
    (batch,) = relayed(outbox).batches
    with cost(outbox) as spent:
        deliver(outbox, batch.claims)
    assert spent == Cost(statements=20, commits=11)
    assert set(statuses(outbox, ids)) == {"delivered"}


@pytest.mark.parametrize(("rows", "statements"), [(1, 6), (500, 6), (1000, 11)])
def test_a_relay_pass_costs_by_its_looks_and_not_by_its_rows(outbox: Outbox, rows: int, statements: int) -> None:
    outbox.register(Chat())
    enqueue_many(outbox, rows)
    with cost(outbox) as spent:
        assert len(relayed(outbox).claims) == rows
    assert spent.statements == statements


def test_a_pass_beside_a_full_allowance_looks_and_asks_for_no_lock(outbox: Outbox) -> None:
    outbox.register(Chat(max_in_flight=10))
    enqueue_many(outbox, 30)
    assert len(relayed(outbox).claims) == 10
    with recorded(outbox.store) as sent:
        assert relayed(outbox).claims == []
    assert [each.sql.split()[0] for each in sent] == ["WITH", "SELECT"]  # what is pending; the gates


def test_successes_ask_for_no_lock_unless_failures_are_on_record(outbox: Outbox) -> None:
    outbox.register(Chat(batch_size=10, concurrency=10))
    enqueue_many(outbox, 20, target="them")
    first, second = relayed(outbox).batches
    with recorded(outbox.store) as sent:
        deliver(outbox, first.claims, watched=True)
    assert [each.sql.split()[0] for each in sent] == ["UPDATE", "UPDATE", "SELECT"]
    with recorded(outbox.store) as sent:
        deliver(outbox, second.claims, watched=True)
    assert len(sent) == 2  # a moment ago there were none on record


def test_a_thousand_rows_travel_in_ten_broker_messages(outbox: Outbox) -> None:
    outbox.register(Chat(batch_size=100))
    enqueue_many(outbox, 1000)
    assert [len(batch.claims) for batch in relayed(outbox).batches] == [100] * 10


def relayed(outbox: Outbox) -> Capture:
    """What one relay pass would hand to the broker."""
    capture = Capture()
    Relay(outbox.store, outbox.channels, capture, outbox.telemetry, outbox.owner).run_once(budget_s=60.0)
    return capture
