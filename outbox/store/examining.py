"""How an engine's connections are set up: what decides whether a commit lasts and whether writers get in each other's way."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine

from outbox.store.sqlite import READ_ONLY


class Begin(StrEnum):
    """When a SQLite transaction that begins by reading takes the write lock."""

    IMMEDIATE = "immediate"
    """At its begin."""
    DEFERRED = "deferred"
    """At its first write: which fails at once if somebody else wrote meanwhile, whatever the busy timeout."""
    DRIVER = "driver"
    """The driver's legacy mode: reads stand outside, the transaction begins with the first write."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SQLiteSettings:
    """``synchronous`` as SQLite numbers it: 0 off, 1 normal, 2 full, 3 extra."""

    journal_mode: str
    synchronous: int
    busy_timeout_ms: int
    read_only: bool


@dataclass(frozen=True, slots=True)
class PostgreSQLSettings:
    """What the server says to a session of the engine's."""

    version: int
    """``server_version_num``: 160004 is 16.4."""
    fsync: bool
    synchronous_commit: bool
    read_only: bool
    autocommit: bool


def sqlite_settings(engine: Engine) -> SQLiteSettings:
    """The settings of a SQLite engine's connections."""
    with _connection(engine) as connection:
        journal_mode, synchronous, busy_timeout = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        )
        read_only = _is_read_only(connection.connection.dbapi_connection)
    return SQLiteSettings(str(journal_mode), int(synchronous), int(busy_timeout), read_only)


def _is_read_only(driver: Any) -> bool:
    """Whether nothing can be written: tried out, because SQLite tells it to nobody before the first write."""
    if not isinstance(driver, sqlite3.Connection):
        return False
    driver.rollback()
    try:
        driver.execute("BEGIN IMMEDIATE")
        [version] = driver.execute("PRAGMA user_version").fetchone()
        driver.execute(f"PRAGMA user_version = {version:d}")
    except sqlite3.OperationalError as error:  # locked, for one, is no answer
        return "readonly" in str(error)
    finally:
        driver.rollback()
    return False


def begin_of(engine: Engine) -> Begin:
    """When transactions of a SQLite engine take the write lock: tried out, with one that reads."""
    with engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        if not isinstance(driver, sqlite3.Connection):
            return Begin.UNKNOWN
        spoken: list[str] = []
        driver.set_trace_callback(spoken.append)
        try:
            with connection.begin():
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
                holds_snapshot = driver.in_transaction
        finally:
            driver.set_trace_callback(None)
    if any(statement.upper().startswith(("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE")) for statement in spoken):
        return Begin.IMMEDIATE
    return Begin.DEFERRED if holds_snapshot else Begin.DRIVER


def postgresql_settings(engine: Engine) -> PostgreSQLSettings:
    """The settings of a PostgreSQL engine's sessions."""
    with _connection(engine) as connection:
        autocommit = getattr(connection.connection.dbapi_connection, "autocommit", False) is True
        shown = {
            name: str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())
            for name in ("server_version_num", "fsync", "synchronous_commit", "transaction_read_only")
        }
    return PostgreSQLSettings(
        version=int(shown["server_version_num"]),
        fsync=shown["fsync"] == "on",
        synchronous_commit=shown["synchronous_commit"] != "off",
        read_only=shown["transaction_read_only"] == "on",
        autocommit=autocommit,
    )


@contextmanager
def _connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection.execution_options(**{READ_ONLY: True})  # an application's engine does not know it
