"""How a store holds its database: durable, patient, at read committed, and with a typed error for what is not one."""

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, select, text
from sqlalchemy.exc import OperationalError

from outbox.errors import ConfigurationError, DatabaseUnavailable, TransactionError
from outbox.store import migrating, sqlite
from outbox.store.sqlstore import SQLStore, open_store
from tests.contract.conftest import OpenStore
from tests.contract.steps import CHANNEL, claim, count, enqueue, enqueue_named, ids, new_row
from tests.servers.kept import free_port


@pytest.mark.proves("T39")
def test_t39_sqlite_commits_are_durable_and_writers_wait_for_each_other(sqlite_url: str, open_on: OpenStore) -> None:
    with open_on(sqlite_url).transaction() as tx:
        names = ("journal_mode", "synchronous", "busy_timeout")
        settings = [tx.connection.exec_driver_sql(f"pragma {name}").scalar_one() for name in names]
    assert settings == ["wal", 2, sqlite.BUSY_TIMEOUT_MS]


def test_the_wal_of_sqlite_that_a_long_reader_made_grow_is_short_again_when_it_has_gone(
    sqlite_outbox_url: str, open_on: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LONGEST_WAL_BYTES", 1 << 20)
    store = open_on(sqlite_outbox_url)
    wal = Path(f"{make_url(sqlite_outbox_url).database}-wal")
    with store.transaction(read_only=True) as reader:
        reader.connection.execute(select(store.tables.messages)).all()
        for _ in range(8):
            enqueue(store, new_row(payload=f'"{"x" * (1 << 20)}"'))
        held_bytes = wal.stat().st_size
    for name in ("writes all of it back", "begins it anew"):
        enqueue_named(store, name)

    assert held_bytes > 8 << 20
    assert wal.stat().st_size <= 1 << 20


def test_an_applications_sqlite_engine_lends_its_address_and_nothing_else(sqlite_outbox_url: str, open_on: OpenStore) -> None:
    """The store's transactions take the write lock when they begin, whatever the application's do."""
    application = create_engine(sqlite_outbox_url, connect_args={"timeout": 0})
    store = open_on(None, engine=application)
    with store.transaction(), application.connect() as connection, pytest.raises(OperationalError, match="locked"):
        connection.execute(text("update message_outbox set priority = 1"))
    application.dispose()


def test_an_applications_postgresql_engine_is_used_at_read_committed(postgres_outbox_url: str, open_on: OpenStore) -> None:
    application = create_engine(postgres_outbox_url, isolation_level="SERIALIZABLE")
    store = open_on(None, engine=application)
    with store.transaction() as tx:
        assert tx.connection.exec_driver_sql("show transaction_isolation").scalar_one() == "read committed"


def test_a_frozen_process_gives_up_its_locks_on_postgresql(postgres_outbox_url: str, open_on: OpenStore) -> None:
    with open_on(postgres_outbox_url).transaction() as tx:
        assert tx.connection.exec_driver_sql("show idle_in_transaction_session_timeout").scalar_one() == "30s"


@pytest.mark.parametrize(("said", "patience_ms"), [({}, 30_000), ({"tcp_user_timeout": "7000"}, 7_000)])
def test_a_server_that_is_gone_without_a_word_is_noticed_unless_the_url_says_otherwise(
    postgres_outbox_url: str, open_on: OpenStore, said: dict[str, str], patience_ms: int
) -> None:
    url = make_url(postgres_outbox_url).update_query_dict(said).render_as_string(hide_password=False)
    with open_on(url).transaction() as tx, closing(socket.socket(fileno=os.dup(tx.connection.connection.fileno()))) as line:
        unanswered = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        idle, interval, count = (
            line.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
    assert unanswered == patience_ms
    assert idle + interval * count <= 30


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_an_outbox_in_memory_lives_as_long_as_its_store(url: str, open_on: OpenStore) -> None:
    store = open_on(url)
    migrating.upgrade(store)
    (message_id,) = enqueue(store, new_row())
    assert ids(claim(store)) == [message_id]


@pytest.mark.parametrize(
    "url",
    ["not a url", "mysql://host/name", "oracle://host/name", "postgresql+nonsense://host/name", "postgresql://host:port/name"],
)
def test_an_address_that_cannot_be_used_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_store(url)
    assert "://" in str(refused.value) or "use SQLite or PostgreSQL" in str(refused.value) or "%2F" in str(refused.value)


def test_neither_or_both_ways_to_name_the_database_are_refused() -> None:
    engine = create_engine("sqlite://")
    for arguments in ({}, {"url": "sqlite://", "engine": engine}):
        with pytest.raises(ConfigurationError, match="URL or by engine"):
            open_store(**arguments)  # type: ignore[arg-type]


def test_a_server_that_does_not_answer_is_a_typed_error(open_on: OpenStore) -> None:
    store = open_on(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none")
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        store.pending([CHANNEL])


def test_a_file_that_is_not_a_database_is_a_typed_error(tmp_path: Path, open_on: OpenStore) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, " * 100)
    with pytest.raises(DatabaseUnavailable):
        open_on(f"sqlite:///{path}").stats()


def test_a_directory_that_does_not_exist_is_a_typed_error(tmp_path: Path, open_on: OpenStore) -> None:
    with pytest.raises(DatabaseUnavailable):
        open_on(f"sqlite:///{tmp_path / 'nowhere' / 'app.db'}").stats()


def test_a_database_that_may_only_be_read_is_a_typed_error(postgres_outbox_url: str, open_on: OpenStore) -> None:
    reader = create_engine(postgres_outbox_url, connect_args={"options": "-c default_transaction_read_only=on"})
    store = open_on(None, engine=reader)
    assert store.stats() == []
    with pytest.raises(TransactionError, match="read-only"):
        store.expire(1)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_process_forgets_its_parents_connections(store: SQLStore) -> None:
    enqueue_named(store, "parent")
    theirs = pooled(store)
    child = os.fork()
    if child == 0:
        try:
            store.after_fork()
            enqueue_named(store, "child")
            os._exit(int(pooled(store) is theirs))
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert count(store) == 2
    assert ids(claim(store)) == ["parent", "child"]


def pooled(store: SQLStore) -> object:
    """The driver's connection that the store takes when it needs one."""
    with store.engine.connect() as connection:
        return connection.connection.driver_connection
