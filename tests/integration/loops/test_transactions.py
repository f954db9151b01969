"""Enqueue joins whatever holds the application's transaction; what cannot be joined is refused, and nothing is written."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from outbox import NewMessage, Outbox
from outbox.errors import DatabaseUnavailable, InvalidMessage, SchemaError, TransactionError
from outbox.policy.texts import LONGEST_TEXTS

ORDER = text("insert into orders values (1)")


def kept(outbox: Outbox) -> int:
    return len(outbox.list())


def test_invariant_1_a_session_commits_message_and_data_together(outbox: Outbox, application: Engine) -> None:
    with Session(application) as session, session.begin():
        session.execute(ORDER)
        queued = outbox.enqueue(session, "chat", payload={"text": "On its way"})
    assert queued.created
    assert outbox.get(queued.id).payload == {"text": "On its way"}


@pytest.mark.proves("R1")
def test_invariant_1_a_session_that_rolls_back_leaves_neither(outbox: Outbox, application: Engine) -> None:
    with Session(application) as session:
        session.execute(ORDER)
        outbox.enqueue(session, "chat")
        session.rollback()
    with application.connect() as connection:
        assert connection.execute(text("select count(*) from orders")).scalar_one() == 0
    assert kept(outbox) == 0


def test_a_session_that_has_not_begun_begins_with_the_enqueue(outbox: Outbox, application: Engine) -> None:
    with Session(application) as session:
        outbox.enqueue(session, "chat")
        assert session.in_transaction()
        session.commit()
    assert kept(outbox) == 1


def test_a_connection_is_joined(outbox: Outbox, application: Engine) -> None:
    with application.begin() as connection:
        outbox.enqueue(connection, "chat")
    with application.connect() as connection:
        outbox.enqueue(connection, "chat")
        connection.rollback()
    assert kept(outbox) == 1


def test_a_scoped_session_is_joined(outbox: Outbox, application: Engine) -> None:
    session = scoped_session(sessionmaker(application))
    outbox.enqueue(session, "chat")
    session.commit()
    outbox.enqueue(session, "chat")
    session.rollback()
    session.remove()
    assert kept(outbox) == 1


def test_a_savepoint_takes_its_message_along(outbox: Outbox, application: Engine) -> None:
    with Session(application) as session, session.begin():
        outbox.enqueue(session, "chat", target="kept")
        savepoint = session.begin_nested()
        outbox.enqueue(session, "chat", target="gone")
        savepoint.rollback()
    assert [message.target for message in outbox.list()] == ["kept"]


def test_messages_of_one_reply_are_all_written_or_none(outbox: Outbox, application: Engine) -> None:
    parts = [NewMessage(channel="chat", turn_id="t", ordering_key="k") for _ in range(3)]
    with Session(application) as session, session.begin():
        outbox.enqueue_many(session, parts)
    with pytest.raises(InvalidMessage), Session(application) as session, session.begin():
        outbox.enqueue_many(session, [*parts, NewMessage(channel="chat", priority=1000)])
    assert kept(outbox) == 3


def statements_of(engine: Engine) -> list[str]:
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    return sent


def test_invariant_1_enqueue_is_one_statement(outbox: Outbox, application: Engine) -> None:
    with Session(application) as session, session.begin():
        session.execute(ORDER)
        sent = statements_of(application)
        outbox.enqueue(session, "chat", payload={"a": 1}, target="t", ordering_key="k")
        assert len(sent) == 1
        outbox.enqueue_many(session, [NewMessage(channel="chat") for _ in range(50)])
        assert len(sent) == 2


@pytest.mark.parametrize("name", LONGEST_TEXTS)
def test_the_longest_texts_that_are_accepted_are_stored(outbox: Outbox, application: Engine, name: str) -> None:
    """Every one of these stands in an index, whose entries PostgreSQL bounds; text that does not compress shows it."""
    longest = "".join(chr(33 + (i * i * 7919 + i * 31) % 90) for i in range(LONGEST_TEXTS[name]))
    with Session(application) as session, session.begin():
        queued = outbox.enqueue(session, **{"channel": "c" * 63, name: longest})  # type: ignore[arg-type]
    outbox.pause("c" * 63, target=outbox.get(queued.id).target)
    assert getattr(outbox.get(queued.id), name) == longest


# What cannot be joined.


@pytest.mark.parametrize("handle", [None, "session", 5, dict, sqlite3], ids=["none", "text", "number", "class", "module"])
def test_what_holds_no_transaction_is_refused(outbox: Outbox, handle: Any) -> None:
    with pytest.raises(TransactionError, match="needs what holds your open transaction as its first argument"):
        outbox.enqueue(handle, "chat")


def test_an_engine_is_no_transaction(outbox: Outbox, application: Engine) -> None:
    with pytest.raises(TransactionError, match="not Engine"):
        outbox.enqueue(application, "chat")


def test_a_closed_connection_is_refused(outbox: Outbox, application: Engine) -> None:
    connection = application.connect()
    connection.close()
    with pytest.raises(TransactionError, match="Connection cannot take part: This Connection is closed"):
        outbox.enqueue(connection, "chat")


def test_a_session_without_a_database_is_refused(outbox: Outbox) -> None:
    with Session() as session, pytest.raises(TransactionError, match="Session cannot take part"):
        outbox.enqueue(session, "chat")


@pytest.mark.filterwarnings("ignore:transaction already deassociated")
def test_a_session_whose_connection_was_rolled_back_under_it_is_refused(outbox: Outbox, application: Engine) -> None:
    with Session(application) as session:
        session.connection().get_transaction().rollback()  # type: ignore[union-attr]
        with pytest.raises(TransactionError, match="the session's transaction is over already"):
            outbox.enqueue(session, "chat")
        session.rollback()
    assert kept(outbox) == 0


def autocommit_by_option(engine: Engine) -> Connection:
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def autocommit_by_engine_option(engine: Engine) -> Connection:
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()


def autocommit_by_engine(engine: Engine) -> Connection:
    return create_engine(engine.url, isolation_level="AUTOCOMMIT").connect()


def autocommit_by_driver(engine: Engine) -> Connection:
    connection = engine.connect()
    driver: Any = connection.connection.driver_connection
    if engine.dialect.name == "sqlite":
        driver.isolation_level = None
    else:
        driver.autocommit = True
    return connection


@pytest.mark.proves("R21")
@pytest.mark.parametrize(
    "connect",
    [autocommit_by_option, autocommit_by_engine_option, autocommit_by_engine, autocommit_by_driver],
    ids=["option", "engine option", "engine", "driver"],
)
def test_r21_a_connection_in_autocommit_mode_is_refused_and_nothing_is_written(
    outbox: Outbox, application: Engine, connect: Callable[[Engine], Connection]
) -> None:
    connection = connect(application)
    try:
        with pytest.raises(TransactionError, match="autocommit mode"):
            outbox.enqueue(connection, "chat")
    finally:
        connection.invalidate()
        connection.engine.dispose()
    assert kept(outbox) == 0


def test_a_session_in_autocommit_mode_is_refused(outbox: Outbox, application: Engine) -> None:
    with Session(application.execution_options(isolation_level="AUTOCOMMIT")) as session:
        with pytest.raises(TransactionError, match="autocommit mode"):
            outbox.enqueue(session, "chat")
        session.rollback()


def test_an_application_that_says_begin_itself_is_joined(sqlite_url: str) -> None:
    """The way to immediate transactions on SQLite: the driver says nothing, a hook says BEGIN IMMEDIATE."""
    engine = create_engine(sqlite_url)
    event.listen(engine, "connect", lambda connection, _record: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    outbox = Outbox(engine=engine)
    outbox.upgrade_schema()
    with engine.connect() as connection:
        outbox.enqueue(connection, "chat")
        connection.rollback()
        outbox.enqueue(connection, "chat")
        connection.commit()
    assert kept(outbox) == 1
    outbox.close()
    engine.dispose()


@pytest.fixture
def read_only(outbox: Outbox, application: Engine) -> Iterator[Connection]:
    with application.connect() as connection:
        if application.dialect.name == "sqlite":
            connection.exec_driver_sql("pragma query_only = on")
        else:
            connection.exec_driver_sql("set transaction read only")
        yield connection
        connection.invalidate()


@pytest.mark.proves("R21")
def test_r21_a_read_only_transaction_is_refused(outbox: Outbox, read_only: Connection) -> None:
    with pytest.raises(TransactionError, match="read-only, so nothing can be written"):
        outbox.enqueue(read_only, "chat")


def test_a_database_that_is_opened_for_reading_is_refused(tmp_path: Path) -> None:
    outbox = Outbox(f"sqlite:///{tmp_path}/app.db")
    outbox.upgrade_schema()
    engine = create_engine(f"sqlite:///file:{tmp_path}/app.db?mode=ro&uri=true")
    with engine.connect() as connection, pytest.raises(TransactionError, match="read-only"):
        outbox.enqueue(connection, "chat")
    engine.dispose()
    outbox.close()


@pytest.mark.proves("R21")
def test_r21_a_transaction_that_has_failed_already_is_refused(postgres_url: str) -> None:
    outbox = Outbox(postgres_url)
    outbox.upgrade_schema()
    with outbox.store.engine.connect() as connection:
        with pytest.raises(Exception, match="division by zero"):
            connection.execute(text("select 1 / 0"))
        with pytest.raises(TransactionError, match="has failed already"):
            outbox.enqueue(connection, "chat")
    outbox.close()


def test_a_database_without_the_tables_is_refused_with_what_to_do(database_url: str) -> None:
    outbox = Outbox(database_url)
    with outbox.store.engine.connect() as connection, pytest.raises(SchemaError, match="run `outbox db upgrade`"):
        outbox.enqueue(connection, "chat")
    outbox.close()


def test_a_database_that_cannot_be_reached_is_told_from_a_bad_message(outbox: Outbox, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/nowhere/app.db")
    with Session(engine) as session, pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        outbox.enqueue(session, "chat")
    engine.dispose()


# The nudge.


@pytest.fixture
def nudges(outbox: Outbox, application: Engine) -> list[int]:
    """For each nudge, how many messages another connection saw at that moment."""
    seen: list[int] = []

    def note(_channel: str, committed: bool) -> None:
        assert committed
        seen.append(kept(outbox))

    outbox.on_commit = note
    return seen


def test_the_nudge_of_a_session_comes_once_after_the_real_commit(
    outbox: Outbox, application: Engine, nudges: list[int]
) -> None:
    with Session(application) as session:
        outbox.enqueue(session, "chat")
        outbox.enqueue(session, "chat")
        outbox.enqueue_many(session, [NewMessage(channel="chat")] * 2)
        assert nudges == []
        session.commit()
        assert nudges == [4]
        session.execute(ORDER)
        session.commit()
        assert nudges == [4]
        outbox.enqueue(session, "chat")
        session.commit()
        assert nudges == [4, 5]


@pytest.mark.parametrize("end", ["rollback", "close", "invalidate"])
def test_a_transaction_that_is_not_committed_forgets_its_nudge(
    outbox: Outbox, application: Engine, nudges: list[int], end: str
) -> None:
    session = Session(application)
    outbox.enqueue(session, "chat")
    getattr(session, end)()
    session.execute(ORDER)
    session.commit()
    session.close()
    assert nudges == []


def test_the_release_of_a_savepoint_is_no_commit(outbox: Outbox, application: Engine, nudges: list[int]) -> None:
    with Session(application) as session:
        with session.begin_nested():
            outbox.enqueue(session, "chat")
        assert nudges == []
        session.commit()
    assert nudges == [1]


def test_a_commit_through_open_savepoints_nudges_once(outbox: Outbox, application: Engine, nudges: list[int]) -> None:
    with Session(application) as session:
        session.begin_nested()
        outbox.enqueue(session, "chat")
        session.commit()
    assert nudges == [1]


def test_a_savepoint_that_is_rolled_back_keeps_the_others_nudge(outbox: Outbox, application: Engine, nudges: list[int]) -> None:
    with Session(application) as session:
        outbox.enqueue(session, "chat")
        savepoint = session.begin_nested()
        outbox.enqueue(session, "chat")
        savepoint.rollback()
        session.commit()
    assert nudges == [1]


def test_a_connections_commit_nudges_once_and_its_rollback_never(outbox: Outbox, application: Engine) -> None:
    nudges: list[str] = []
    outbox.on_commit = lambda _channel, committed: nudges.append("committed" if committed else "about to be")
    with application.connect() as connection:
        outbox.enqueue(connection, "chat")
        outbox.enqueue(connection, "chat")
        connection.rollback()
        connection.execute(ORDER)
        connection.commit()
        assert nudges == []
        with connection.begin_nested():
            outbox.enqueue(connection, "chat")
        assert nudges == []
        connection.commit()
        assert nudges == ["about to be"]
        connection.execute(ORDER)
        connection.commit()
        assert nudges == ["about to be"]


def test_each_channel_with_a_new_message_that_is_due_is_nudged_once(outbox: Outbox, application: Engine) -> None:
    nudged: list[str] = []
    outbox.on_commit = lambda channel, _committed: nudged.append(channel)
    with Session(application) as session, session.begin():
        for channel in ("chat", "mail", "chat"):
            outbox.enqueue(session, channel, idempotency_key=f"{channel}-1")
        outbox.enqueue(session, "later", delay=60)
    with Session(application) as session, session.begin():
        outbox.enqueue(session, "chat", idempotency_key="chat-1")
    assert sorted(nudged) == ["chat", "mail"]


def test_a_nudge_that_fails_does_not_fail_the_commit(
    outbox: Outbox, application: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_channel: str, _committed: bool) -> None:
        raise RuntimeError("no broker")

    outbox.on_commit = fail
    with Session(application) as session, session.begin():
        outbox.enqueue(session, "chat")
    with application.begin() as connection:
        outbox.enqueue(connection, "chat")
    assert kept(outbox) == 2
    assert "no broker" in caplog.text


def test_enqueue_knows_no_nudge_before_celery_is_installed(outbox: Outbox, application: Engine) -> None:
    with Session(application) as session, session.begin():
        outbox.enqueue(session, "chat")
    assert kept(outbox) == 1
