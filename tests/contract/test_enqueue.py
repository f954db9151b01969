"""``add``: rows in the caller's own transaction, once for each idempotency key."""

import pytest
from sqlalchemy import create_engine, event, text

from outbox.store import migrating
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.conftest import OpenStore
from tests.contract.steps import MINUTE, NOW, SECOND, claim, count, enqueue, ids, new_row, stored


@pytest.mark.proves("R1")
@pytest.mark.parametrize(("ending", "kept"), [("rollback", 0), ("commit", 1)])
def test_invariant_1_the_message_shares_the_fate_of_the_callers_own_data(
    database_url: str, open_on: OpenStore, ending: str, kept: int
) -> None:
    store = open_on(database_url)
    migrating.upgrade(store)
    application = create_engine(database_url)
    with application.begin() as connection:
        connection.execute(text("create table orders (id integer)"))
    with application.connect() as connection:
        connection.execute(text("insert into orders values (1)"))
        store.add(connection, [new_row()])
        getattr(connection, ending)()
        assert connection.execute(text("select count(*) from orders")).scalar_one() == kept
    application.dispose()
    assert count(store) == kept


def test_a_rolled_back_savepoint_takes_its_message_along_and_no_other(store: SQLStore) -> None:
    with store.transaction() as tx:
        store.add(tx.connection, [new_row(id="kept")])
        savepoint = tx.connection.begin_nested()
        store.add(tx.connection, [new_row(id="gone", idempotency_key="k")])
        savepoint.rollback()
    assert ids(claim(store)) == ["kept"]


@pytest.mark.parametrize("many", [1, 100])
def test_invariant_1_a_plain_enqueue_adds_one_statement(store: SQLStore, many: int) -> None:
    sent: list[str] = []
    with store.transaction() as tx:
        event.listen(tx.connection, "before_cursor_execute", lambda *args: sent.append(args[2]))
        store.add(tx.connection, [new_row() for _ in range(many)])
    assert len(sent) == 1
    assert count(store) == many


def test_a_new_message_stands_as_it_was_given(store: SQLStore) -> None:
    given = new_row(
        id="all", account_id="acme", turn_id="turn-1", dispatch_kind="block", headers='{"a":"1"}', ordering_key="chat-1",
        priority=-3, idempotency_key="key-1", max_attempts=2, ttl_ms=MINUTE,
    )  # fmt: skip
    enqueue(store, given)
    message = store.find("all")
    assert message is not None
    assert (message.account_id, message.turn_id, message.dispatch_kind) == ("acme", "turn-1", "block")
    assert (message.payload, message.headers) == ({"text": "hello"}, {"a": "1"})
    assert (message.ordering_key, message.priority, message.idempotency_key) == ("chat-1", -3, "key-1")
    assert (message.status, message.attempt_count, message.max_attempts, message.lease) == ("queued", 0, 2, 0)
    assert (message.queued_at, message.next_attempt_at, message.expires_at) == (NOW, NOW, NOW + MINUTE)


@pytest.mark.proves("R2")
def test_absent_null_and_empty_stay_apart(store: SQLStore) -> None:
    enqueue(store, new_row(id="null", turn_id=None, payload=None, ordering_key=None))
    enqueue(store, new_row(id="empty", turn_id="", payload='""', ordering_key=""))
    null, empty = stored(store, "null"), stored(store, "empty")
    assert (null.turn_id, null.payload, null.ordering_key) == (None, None, None)
    assert (empty.turn_id, empty.payload, empty.ordering_key) == ("", '""', "")


def test_text_of_any_language_comes_back_as_it_was(store: SQLStore) -> None:
    target = "チャット/\u202eabc 'quoted' \\ %s :name {}"
    enqueue(store, new_row(id="odd", target=target))
    assert stored(store, "odd").target == target


def test_a_delay_moves_the_first_due_time_and_the_ttl_counts_from_there(store: SQLStore) -> None:
    enqueue(store, new_row(id="later", delay_ms=10 * SECOND, ttl_ms=MINUTE))
    row = stored(store, "later")
    assert (row.queued_at, row.next_attempt_at, row.expires_at) == (NOW, NOW + 10 * SECOND, NOW + 70 * SECOND)


def test_a_due_time_beats_a_delay_and_may_lie_in_the_past(store: SQLStore) -> None:
    enqueue(store, new_row(id="past", due_at=NOW - MINUTE, delay_ms=SECOND, ttl_ms=2 * MINUTE))
    row = stored(store, "past")
    assert (row.next_attempt_at, row.expires_at) == (NOW - MINUTE, NOW + MINUTE)


@pytest.mark.proves("R12", "T28")
def test_t28_the_same_idempotency_key_returns_the_first_message(store: SQLStore) -> None:
    with store.transaction() as tx:
        (first,) = store.add(tx.connection, [new_row(idempotency_key="order-1")])
    with store.transaction() as tx:
        (second,) = store.add(tx.connection, [new_row(idempotency_key="order-1", payload='"other"')])
    assert (first.created, second.created) == (True, False)
    assert second.id == first.id
    assert stored(store, first.id).payload == '{"text":"hello"}'


def test_the_same_idempotency_key_in_one_transaction_returns_the_first_message(store: SQLStore) -> None:
    with store.transaction() as tx:
        first, second = store.add(tx.connection, [new_row(idempotency_key="k"), new_row(idempotency_key="k")])
        (third,) = store.add(tx.connection, [new_row(idempotency_key="k")])
    assert {first.id} == {second.id, third.id}
    assert [first.created, second.created, third.created].count(True) == 1


def test_an_idempotency_key_is_unique_within_its_channel_only(store: SQLStore) -> None:
    enqueue(store, new_row(idempotency_key="k"), new_row(channel="email", idempotency_key="k"))
    assert count(store) == 2


def test_answers_come_in_the_order_of_the_rows_whatever_their_keys(store: SQLStore) -> None:
    rows = [new_row(idempotency_key="z"), new_row(), new_row(idempotency_key="a"), new_row()]
    assert enqueue(store, *rows) == [row.id for row in rows]


def test_an_idempotency_key_is_free_again_once_its_message_is_pruned(store: SQLStore, clock: FakeClock) -> None:
    (first,) = enqueue(store, new_row(idempotency_key="k"))
    with store.transaction() as tx:
        tx.connection.execute(store.tables.messages.delete())
    (second,) = enqueue(store, new_row(idempotency_key="k"))
    assert second != first


def test_the_databases_own_clock_makes_a_new_message_due_at_once(live_store: SQLStore) -> None:
    (message_id,) = enqueue(live_store, new_row())
    assert ids(claim(live_store)) == [message_id]


def test_a_message_of_another_table_stays_out_of_this_one(database_url: str, open_on: OpenStore) -> None:
    store, elsewhere = open_on(database_url), open_on(database_url, table_name="jobs_outbox")
    migrating.upgrade(store)
    migrating.upgrade(elsewhere)
    enqueue(elsewhere, new_row())
    assert (count(store), count(elsewhere)) == (0, 1)
