"""The queue for SQLite's write lock: it hands on at once, whoever dies or is frozen, and decides nothing."""

import _thread
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from outbox.errors import ConfigurationError, DatabaseBusy
from outbox.integrations.sqlite import queue_writers
from outbox.store import migrating, sqlite, write_queue
from outbox.store.sqlstore import SQLStore
from outbox.store.write_queue import WriteQueue
from tests.contract.concurrency import PATIENCE_S, in_background, waiting
from tests.contract.conftest import OpenStore
from tests.contract.steps import count, enqueue_named, new_row

AT_ITS_HEAD = """
import sys
from outbox.store.write_queue import WriteQueue
queue = WriteQueue(sys.argv[1])
assert queue.enter(5.0)
print("at the head", flush=True)
sys.stdin.read()
"""
WANTS_ANOTHER_TOO = """
import sys
from outbox.store.write_queue import WriteQueue
held, wanted = map(WriteQueue, sys.argv[1:])
assert held.enter(5.0)
print("at the head", flush=True)
if wanted.enter(20.0):
    wanted.leave()
held.leave()
print("comes again" if wanted.enter(5.0) else "waits in vain", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "outbox.db-queue")


@contextmanager
def another_process(*paths: str, script: str = AT_ITS_HEAD) -> Iterator[subprocess.Popen[str]]:
    """It is at the head of the first queue, by default until its input ends, or until it does."""
    command = [sys.executable, "-c", script, *paths]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at the head\n"
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def frozen(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize("leave", [ended, subprocess.Popen.kill])
def test_who_waits_for_another_process_comes_to_the_head_when_that_leaves_or_is_killed(
    path: str, leave: Callable[[subprocess.Popen[str]], None]
) -> None:
    queue = WriteQueue(path)
    with another_process(path) as other:
        assert not queue.enter(longest_s=0.05)
        comes = in_background(queue.enter, PATIENCE_S)
        leave(other)
        assert comes.result(PATIENCE_S)
    queue.leave()


def test_who_gave_up_does_not_come_to_the_head_later(path: str) -> None:
    queue = WriteQueue(path)
    with another_process(path) as other:
        assert not queue.enter(longest_s=0.05)
        ended(other)
        other.wait(PATIENCE_S)
    with another_process(path):
        assert not queue.enter(longest_s=0.05)


def test_a_waiting_that_is_interrupted_leaves_the_queue(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time limit of the task, which Celery raises wherever the thread is."""

    def interrupted(*_: object) -> None:
        raise TimeoutError

    queue = WriteQueue(path)
    with another_process(path), monkeypatch.context() as patch:
        patch.setattr(write_queue._Waiting, "join", interrupted)
        with pytest.raises(TimeoutError):
            queue.enter(PATIENCE_S)
    assert queue.enter(PATIENCE_S)


def test_a_waiting_that_is_interrupted_when_it_has_come_to_the_head_leaves_it(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = WriteQueue(path)

    def interrupted(waiting: write_queue._Waiting, _timeout: float) -> None:
        ended(other)
        threading.Thread.join(waiting, PATIENCE_S)
        raise TimeoutError

    with another_process(path) as other, monkeypatch.context() as patch:
        patch.setattr(write_queue._Waiting, "join", interrupted)
        with pytest.raises(TimeoutError):
            queue.enter(PATIENCE_S)
    assert queue.enter(longest_s=1.0)


def test_who_is_refused_a_lock_for_fear_of_a_deadlock_is_not_waited_for(tmp_path: Path) -> None:
    """The system takes a process for one: two that wait for each other's queues look deadlocked, whichever thread waits."""
    held, wanted = WriteQueue(str(tmp_path / "held-queue")), WriteQueue(str(tmp_path / "wanted-queue"))
    assert held.enter(PATIENCE_S)
    with another_process(str(tmp_path / "wanted-queue"), str(tmp_path / "held-queue"), script=WANTS_ANOTHER_TOO) as other:
        if wanted.enter(PATIENCE_S):
            wanted.leave()
        held.leave()
        assert other.stdout is not None
        assert other.stdout.readline() == "comes again\n"
    assert wanted.enter(longest_s=1.0)


def test_a_lock_that_cannot_be_given_back_keeps_nobody_of_the_process_waiting(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that has lost its server refuses that too, and a transaction that is committed must not fail by it."""
    lock = fcntl.lockf

    def refusing(file: int, how: int) -> None:
        if how == fcntl.LOCK_UN:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        lock(file, how)

    monkeypatch.setattr(fcntl, "lockf", refusing)
    queue = WriteQueue(path)
    assert queue.enter(PATIENCE_S)
    queue.leave()
    assert queue.enter(longest_s=1.0)


def test_where_there_is_no_room_for_another_thread_nobody_waits(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_waiting: write_queue._Waiting) -> None:
        raise RuntimeError("can't start new thread")

    queue = WriteQueue(path)
    with another_process(path), monkeypatch.context() as patch:
        patch.setattr(write_queue._Waiting, "start", refused)
        assert not queue.enter(PATIENCE_S)
    assert queue.enter(PATIENCE_S)


def test_threads_of_a_process_queue_too(path: str) -> None:
    queue = WriteQueue(path)
    assert queue.enter(PATIENCE_S)
    assert not queue.enter(longest_s=0.01)
    comes = in_background(queue.enter, PATIENCE_S)
    queue.leave()
    assert comes.result(PATIENCE_S)


def test_a_child_is_not_in_the_place_of_its_parent(path: str) -> None:
    queue = WriteQueue(path)
    write_queue._queues[path] = queue
    assert queue.enter(PATIENCE_S)
    if (child := os.fork()) == 0:
        os._exit(int(queue.enter(longest_s=0.05)))
    assert os.waitpid(child, 0)[1] == 0, "the child is at the head as well"
    queue.leave()
    if (child := os.fork()) == 0:
        os._exit(int(not queue.enter(longest_s=PATIENCE_S)))
    assert os.waitpid(child, 0)[1] == 0, "the child waits for a thread that it does not have"


def test_a_process_that_is_frozen_at_the_head_keeps_nobody_from_writing(
    sqlite_outbox_url: str, open_on: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "LONGEST_WAIT_S", 0.05)
    store = open_on(sqlite_outbox_url)
    with another_process(f"{make_url(sqlite_outbox_url).database}-queue") as other:
        frozen(other)
        enqueue_named(store, "m")
    assert count(store) == 1


def lost(connection: Connection) -> None:
    connection.invalidate()
    connection.rollback()


@pytest.mark.parametrize("end", [Connection.commit, Connection.rollback, lost])
def test_a_writing_transaction_is_at_the_head_from_its_beginning_to_its_end(
    sqlite_outbox_url: str, open_on: OpenStore, end: Callable[[Connection], None]
) -> None:
    store = open_on(sqlite_outbox_url)
    with store.transaction() as tx:
        begun = waiting(store, enqueue_named, store, "m")
        end(tx.connection)
        begun.result(PATIENCE_S)
    assert at_once(store)


def test_who_does_not_get_the_lock_of_sqlite_leaves_the_queue(
    sqlite_outbox_url: str, open_on: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    store = open_on(sqlite_outbox_url)
    foreign = create_engine(sqlite_outbox_url)
    with foreign.connect() as connection:
        connection.exec_driver_sql("begin immediate")
        with pytest.raises(DatabaseBusy):
            store.forget_buckets()
    foreign.dispose()
    assert at_once(store)


def test_reading_does_not_queue(sqlite_outbox_url: str, open_on: OpenStore) -> None:
    store = open_on(sqlite_outbox_url)
    enqueue_named(store, "m")
    with store.transaction():
        assert in_background(count, store).result(PATIENCE_S) == 1
        assert not at_once(store)


def test_where_there_can_be_no_file_writers_do_without(sqlite_url: str, open_on: OpenStore) -> None:
    instead = Path(f"{make_url(sqlite_url).database}-queue")
    instead.mkdir()
    store = open_on(sqlite_url)
    migrating.upgrade(store)
    enqueue_named(store, "m")
    instead.rmdir()
    assert count(store) == 1


def test_where_threads_are_greenlets_writers_do_without(
    sqlite_outbox_url: str, open_on: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited for the lock of a file would wait for all of them."""
    monkeypatch.setattr(_thread, "start_new_thread", lambda *_: None)
    store = open_on(sqlite_outbox_url)
    with store.transaction() as tx:
        connection = tx.connection.connection.driver_connection
        assert isinstance(connection, write_queue.QueuedConnection)
        assert connection.queue is None


def test_a_database_in_memory_has_no_queue(open_on: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_on("sqlite://").transaction():
        assert not list(tmp_path.iterdir())


@pytest.fixture
def own(sqlite_outbox_url: str) -> Iterator[Engine]:
    """An application's engine, set up as SQLAlchemy does by itself, with a table of its own."""
    engine = create_engine(sqlite_outbox_url)
    queue_writers(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table orders (id integer primary key, note text)")
    yield engine
    engine.dispose()


ORDER = "insert into orders (note) values ('ordered')"


@pytest.mark.parametrize("end", [Connection.commit, Connection.rollback, Connection.close])
def test_an_applications_transaction_is_at_the_head_from_its_first_write_to_its_end(
    own: Engine, sqlite_outbox_url: str, open_on: OpenStore, end: Callable[[Connection], None]
) -> None:
    store = open_on(sqlite_outbox_url)
    with own.connect() as connection:
        connection.exec_driver_sql("select * from orders")
        assert at_once(store)
        connection.exec_driver_sql(ORDER)
        connection.exec_driver_sql(ORDER)
        assert not at_once(store)
        end(connection)
        assert at_once(store)


def test_an_application_that_begins_immediately_is_at_the_head_from_then_on(
    own: Engine, sqlite_outbox_url: str, open_on: OpenStore
) -> None:
    store = open_on(sqlite_outbox_url)

    @event.listens_for(own, "begin")
    def begin_immediate(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with own.begin():
        assert not at_once(store)
    assert at_once(store)


def test_an_applications_write_waits_for_its_turn(own: Engine, sqlite_outbox_url: str) -> None:
    def order() -> None:
        with own.begin() as connection:
            connection.exec_driver_sql(ORDER)

    with another_process(f"{make_url(sqlite_outbox_url).database}-queue") as other:
        ordered = in_background(order)
        with pytest.raises(TimeoutError):
            ordered.result(0.2)
        ended(other)
        ordered.result(PATIENCE_S)


def test_a_write_that_is_refused_leaves_the_queue_with_its_transaction(
    own: Engine, sqlite_outbox_url: str, open_on: OpenStore
) -> None:
    store = open_on(sqlite_outbox_url)
    with pytest.raises(OperationalError), own.begin() as connection:
        connection.exec_driver_sql("insert into nowhere values (1)")
    assert at_once(store)


def test_a_message_is_enqueued_by_a_session_that_queues(own: Engine, sqlite_outbox_url: str, open_on: OpenStore) -> None:
    store = open_on(sqlite_outbox_url)
    with Session(own) as session, session.begin():
        session.execute(text(ORDER))
        store.add(session.connection(), [new_row()])
        assert not at_once(store)
    assert count(store) == 1


@pytest.mark.parametrize("url", ["postgresql+psycopg://nowhere/shop", "sqlite+aiosqlite:///shop.db"])
def test_an_engine_that_cannot_queue_is_refused(url: str) -> None:
    engine = create_engine(url) if "aio" not in url else create_async_engine(url).sync_engine
    with pytest.raises(ConfigurationError, match=r"postgresql|asynchronous"):
        queue_writers(engine)


def at_once(store: SQLStore) -> bool:
    """Whether the queue of its database is empty."""
    queue = write_queue._queue_of(str(store.engine.url.database))
    assert queue is not None
    if entered := queue.enter(longest_s=0.01):
        queue.leave()
    return entered
