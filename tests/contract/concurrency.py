"""A second process in a thread, and how to tell that it waits for a lock."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

from sqlalchemy import event, text

from outbox.store import sqlite
from outbox.store.sqlstore import SQLStore
from outbox.store.write_queue import queued

_Result = TypeVar("_Result")

PATIENCE_S = float(os.environ.get("OUTBOX_TEST_PATIENCE_S", "20"))


def in_background(work: Callable[..., _Result], *arguments: Any, **options: Any) -> "Future[_Result]":
    """Run ``work`` beside the test. The thread does not outlive a test that fails."""
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments, **options))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def waiting(store: SQLStore, work: Callable[..., _Result], *arguments: Any, **options: Any) -> "Future[_Result]":
    """Run ``work`` beside the test, and return once it waits for the transaction that the test holds open."""
    if store.sql.dialect.locks_rows:
        future = in_background(work, *arguments, **options)
        await_lock_wait(store)
        return future
    begins, test = threading.Event(), threading.get_ident()

    def noticing(connection: object) -> AbstractContextManager[None]:
        if threading.get_ident() != test:
            begins.set()
        return queued(connection)

    with patch.object(sqlite, "queued", noticing):
        future = in_background(work, *arguments, **options)
        assert begins.wait(PATIENCE_S), "nobody begins a transaction"
    assert not future.done()
    return future


def passing(store: SQLStore, work: Callable[..., _Result], *arguments: Any, **options: Any) -> "Future[_Result]":
    """Run ``work`` beside the transaction that the test holds open: where rows are locked it passes those, and is over when
    this returns; SQLite has one writer, for whom it waits.
    """
    if not store.sql.dialect.locks_rows:
        return waiting(store, work, *arguments, **options)
    future = in_background(work, *arguments, **options)
    result(future)
    return future


def await_lock_wait(store: SQLStore, waiting: int = 1) -> None:
    """Return once ``waiting`` transactions on the PostgreSQL database wait for a lock."""
    watch = text("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
    give_up = time.monotonic() + PATIENCE_S
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.execute(watch).scalar_one() < waiting:
            assert time.monotonic() < give_up, "nobody waits for a lock"
            time.sleep(0.005)


def result(future: "Future[_Result]") -> _Result:
    return future.result(PATIENCE_S)


@contextmanager
def pausing_before(store: SQLStore, fragment: str) -> Iterator[tuple[threading.Event, threading.Event]]:
    """The next thread whose statement contains ``fragment`` sets the first event and waits for the second."""
    reached, go_on = threading.Event(), threading.Event()
    test = threading.get_ident()

    def pause(*arguments: Any) -> None:
        if threading.get_ident() != test and fragment in " ".join(arguments[2].split()) and not reached.is_set():
            reached.set()
            assert go_on.wait(PATIENCE_S)

    event.listen(store.engine, "before_cursor_execute", pause)
    try:
        yield reached, go_on
    finally:
        go_on.set()
        event.remove(store.engine, "before_cursor_execute", pause)
