"""SQLite: one writer at a time, so ``BEGIN IMMEDIATE`` is the lock that PostgreSQL needs many for."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Select,
    StaticPool,
    Table,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.types import TypeEngine

from outbox.store.sql import RECORDS, Dialect
from outbox.store.write_queue import QueuedConnection, queued

BUSY_TIMEOUT_MS = 5_000
LONGEST_WAL_BYTES = 16 << 20
"""What the write-ahead log keeps for itself once it is begun anew; a long reader makes it grow, and else it would stay so."""
READ_ONLY = "outbox_read_only"
"""Execution option of a connection whose transactions only read, and so need not queue behind the writers."""


class SQLiteDialect(Dialect):
    """The differences of SQLite ≥ 3.35."""

    locks_rows = False

    def now(self) -> ColumnElement[int] | None:
        return None

    began = now

    def records(self, name: str, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        array = func.json_each(bindparam(RECORDS)).table_valued("value", name=f"{name}_array")
        return select(
            *(cast(func.json_extract(array.c.value, f"$.{column}"), kind).label(column) for column, kind in columns.items())
        ).subquery(name)

    def named(self, column: ColumnElement[Any], key: ColumnElement[Any]) -> ColumnElement[bool]:
        return column == key

    def among(self, column: ColumnElement[Any], keys: Select[Any]) -> ColumnElement[bool]:
        return column.in_(keys)

    def for_each(self, records: FromClause, keys: Select[Any]) -> Select[Any]:
        found = keys.correlate(records).subquery("found")
        array = select(func.json_group_array(*found.c)).scalar_subquery()
        each = func.json_each(array).table_valued("value", name="each", joins_implicitly=True)
        return select(each.c.value).select_from(records, each)

    def insert(self, table: Table) -> Any:
        return insert(table)

    def lock_keys(self, connection: Connection, keys: Sequence[str]) -> set[str]:
        return set(keys)


def engine_for(url: URL) -> Engine:
    """An engine whose transactions queue for the write lock when they begin, with durable commits.

    A deferred transaction that reads and then writes fails at once with SQLITE_BUSY_SNAPSHOT, whatever the busy timeout.
    """
    if in_memory(url):
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "factory": QueuedConnection})
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def in_memory(url: URL) -> bool:
    """Whether the database lives and dies with its connection."""
    return url.database in (None, "", ":memory:") or "mode=memory" in str(url.database)


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the begin hook speaks; the driver must not
    cursor = connection.cursor()
    limit = f"journal_size_limit={LONGEST_WAL_BYTES}"
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", limit):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get(READ_ONLY, False):
        connection.exec_driver_sql("BEGIN DEFERRED")
        return
    with queued(connection.connection.driver_connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
