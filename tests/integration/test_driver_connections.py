"""Enqueueing in the transaction of a driver's own connection: ``sqlite3`` and ``psycopg``, with no SQLAlchemy in sight."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import make_url

from outbox import NewMessage, Outbox
from outbox.errors import DatabaseBusy, SchemaError, TransactionError
from tests.contract.conftest import (  # noqa: F401 - both databases stand alone here too
    postgres_outbox_url,
    sqlite_outbox_url,
)
from tests.servers.postgresql import libpq_url

Connect = Callable[..., Any]

on_sqlite = pytest.mark.parametrize("outbox_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("outbox_url", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)


@pytest.fixture
def connect(outbox: Outbox) -> Iterator[Connect]:
    """Connections of the driver's own to the outbox's database."""
    opened: list[Any] = []

    def connect(**options: Any) -> Any:
        url = outbox.store.engine.url
        if url.get_backend_name() == "sqlite":
            opened.append(sqlite3.connect(str(url.database), **options))
        else:
            opened.append(psycopg.connect(libpq_url(url), **options))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def connection(connect: Connect) -> Any:
    return connect()


@pytest.mark.proves("R1")
@pytest.mark.parametrize(("ending", "kept"), [("rollback", 0), ("commit", 1)])
def test_a_message_shares_the_fate_of_what_the_drivers_connection_wrote(
    outbox: Outbox, application: object, connection: Any, ending: str, kept: int
) -> None:
    connection.execute("insert into orders values (1)")
    queued = outbox.enqueue(connection, "email", target="ada@example.org", payload={"text": "hello"}, ordering_key="ada")
    getattr(connection, ending)()
    assert connection.execute("select count(*) from orders").fetchone() == (kept,)
    assert [message.id for message in outbox.list()] == [queued.id] * kept


def test_what_is_enqueued_through_a_driver_is_sent_like_any_other(outbox: Outbox, connection: Any) -> None:
    sent = []
    outbox.channel("email")(lambda message, attempt: sent.append((message.payload, message.headers, message.priority)))
    outbox.enqueue(connection, "email", payload={"100 %": "%(id)s :id ?"}, headers={"a": "b"}, priority=7, expires_in=60)
    connection.commit()
    outbox.drain()
    assert sent == [({"100 %": "%(id)s :id ?"}, {"a": "b"}, 7)]


def test_an_idempotency_key_returns_the_first_message_through_a_driver_too(outbox: Outbox, connection: Any) -> None:
    first = outbox.enqueue(connection, "email", idempotency_key="order-1")
    connection.commit()
    second = outbox.enqueue(connection, "email", idempotency_key="order-1")
    connection.commit()
    assert (first.created, second.created, second.id) == (True, False, first.id)


@on_sqlite
def test_invariant_1_a_message_is_one_statement_of_the_driver(outbox: Outbox, connection: Any) -> None:
    connection.execute("insert into message_outbox_import values ('another', 'digest', 'imported', null, 0)")
    spoken: list[str] = []
    connection.set_trace_callback(spoken.append)
    outbox.enqueue(connection, "email")
    assert [statement.split()[0] for statement in spoken] == ["INSERT"]


def test_many_messages_are_written_through_a_driver_at_once(outbox: Outbox, connection: Any) -> None:
    queued = outbox.enqueue_many(connection, [NewMessage(channel="email") for _ in range(100)])
    connection.commit()
    assert len({one.id for one in queued}) == 100
    assert {message.id for message in outbox.list()} == {one.id for one in queued}


def test_the_rows_that_a_connection_makes_of_answers_do_not_matter(outbox: Outbox, connect: Connect) -> None:
    connection = connect()
    if isinstance(connection, sqlite3.Connection):
        connection.row_factory = lambda cursor, row: dict(zip([each[0] for each in cursor.description], row, strict=True))
    else:
        connection.row_factory = dict_row
    queued = outbox.enqueue(connection, "email", idempotency_key="k")
    again = outbox.enqueue(connection, "email", idempotency_key="k")
    assert (queued.created, again.created, again.id) == (True, False, queued.id)


def test_a_connection_that_commits_by_itself_is_refused_unless_a_transaction_was_begun(
    outbox: Outbox, connect: Connect
) -> None:
    by_itself = {"sqlite": {"isolation_level": None}, "postgresql": {"autocommit": True}}
    connection = connect(**by_itself[outbox.store.engine.dialect.name])
    with pytest.raises(TransactionError, match="autocommit"):
        outbox.enqueue(connection, "email")
    connection.execute("begin")
    outbox.enqueue(connection, "email")
    connection.execute("rollback")
    assert outbox.list() == []


def test_a_closed_connection_is_refused(outbox: Outbox, connection: Any) -> None:
    connection.close()
    with pytest.raises(TransactionError, match="closed"):
        outbox.enqueue(connection, "email")


def test_a_transaction_that_may_only_read_is_a_typed_error(outbox: Outbox, connection: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma query_only = on")
    else:
        connection.read_only = True
    with pytest.raises(TransactionError, match="read-only"):
        outbox.enqueue(connection, "email")


def test_a_database_without_the_tables_says_what_to_do(sqlite_url: str, postgres_url: str) -> None:
    for url in (sqlite_url, postgres_url):
        outbox = Outbox(url)
        sqlite = url.startswith("sqlite")
        opened = sqlite3.connect(str(make_url(url).database)) if sqlite else psycopg.connect(libpq_url(make_url(url)))
        with closing(opened) as connection, pytest.raises(SchemaError, match="outbox db upgrade"):
            outbox.enqueue(connection, "email")
        outbox.close()


@on_postgresql
def test_a_transaction_that_has_failed_is_refused(outbox: Outbox, connection: Any) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute("select 1/0")
    with pytest.raises(TransactionError, match="failed already"):
        outbox.enqueue(connection, "email")


@on_sqlite
def test_a_locked_database_is_a_typed_error(outbox: Outbox, connect: Connect) -> None:
    impatient = connect(timeout=0)
    with outbox.store.transaction(), pytest.raises(DatabaseBusy):
        outbox.enqueue(impatient, "email")


def test_what_the_driver_raises_and_means_nothing_here_reaches_the_caller_as_it_is(outbox: Outbox, connection: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("create trigger no_mail before insert on message_outbox begin select raise(abort, 'not today'); end")
        expected: type[Exception] = sqlite3.IntegrityError
    else:
        connection.execute("alter table message_outbox add constraint no_mail check (channel <> 'email')")
        expected = psycopg.errors.CheckViolation
    with pytest.raises(expected):
        outbox.enqueue(connection, "email")
    connection.rollback()


def test_a_connection_to_another_kind_of_database_is_refused(outbox: Outbox, postgres_url: str, sqlite_url: str) -> None:
    if outbox.store.engine.dialect.name == "sqlite":
        opened: Any = psycopg.connect(libpq_url(make_url(postgres_url)))
    else:
        opened = sqlite3.connect(str(make_url(sqlite_url).database))
    with closing(opened) as connection, pytest.raises(TransactionError, match="leads to"):
        outbox.enqueue(connection, "email")


def test_what_is_no_transaction_at_all_is_refused_by_name(outbox: Outbox) -> None:
    with pytest.raises(TransactionError, match="sqlite3 or psycopg; not dict"):
        outbox.enqueue({}, "email")
