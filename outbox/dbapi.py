"""Joining the transaction that a driver's own connection holds: ``sqlite3``, ``psycopg``, or a framework's wrapper around one.

The statements are the same SQLAlchemy Core ones; they are compiled for the driver's parameter style and run on its cursor.
"""

import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from functools import lru_cache
from typing import Any

from sqlalchemy import Dialect, Executable
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError

from outbox.errors import TransactionError
from outbox.store.driver_errors import as_outbox_error
from outbox.store.schema import Tables

SQLITE: Dialect = SQLiteDialect_pysqlite(paramstyle="named")
POSTGRESQL: Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]

_Cursors = Callable[[], AbstractContextManager[Any]]


class DriverError(DBAPIError):
    """What a driver raised. ``raised`` is what its user has learnt to catch: the driver's error, or a framework's around it."""

    def __init__(self, statement: str, raised: Exception, *, connection_lost: bool) -> None:
        driver_error = raised.__cause__ if isinstance(raised.__cause__, Exception) else raised
        super().__init__(statement, None, driver_error, hide_parameters=True, connection_invalidated=connection_lost)
        self.raised = raised


class DriverTransaction:
    """An open transaction that is not SQLAlchemy's, as far as an enqueue needs it.

    :param cursors: opens a cursor whose rows are tuples.
    :param errors: the exception class or classes that its cursors raise.
    :param is_lost: tells, after an error, whether the connection is gone.
    """

    def __init__(
        self, dialect: Dialect, cursors: _Cursors, errors: type[Exception] | tuple[type[Exception], ...],
        is_lost: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.dialect = dialect
        self._cursors = cursors
        self._errors = errors
        self._is_lost = is_lost

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> "Answer":
        """Run the statement, once or for each of several rows. Raises :class:`DriverError`."""
        many = not isinstance(parameters, Mapping)
        compiled = _compile(statement, self.dialect, many)
        rows = [compiled.construct_params(row) for row in (parameters if many else [parameters])]
        try:
            with self._cursors() as cursor:
                if len(rows) == 1:
                    cursor.execute(compiled.string, rows[0])
                else:
                    cursor.executemany(compiled.string, rows)
                return Answer(None if many else cursor.fetchone())
        except self._errors as error:
            raise DriverError(compiled.string, error, connection_lost=self._is_lost()) from error

    def after_commit(self, _call: Callable[[], object]) -> None:
        """Nothing: no driver tells of its commits. The relay's next tick finds the message."""


class Answer:
    """The first row of a statement's answer, or none."""

    def __init__(self, row: Sequence[Any] | None) -> None:
        self._row = row

    def scalar_one_or_none(self) -> Any:
        """The first value, or ``None`` where there was no row."""
        return None if self._row is None else self._row[0]


def join(connection: object) -> DriverTransaction | None:
    """The transaction of a driver's connection; ``None`` for anything else.

    Raises :class:`~outbox.errors.TransactionError` where the connection is closed, commits by itself or has failed.
    """
    if isinstance(connection, DriverTransaction):
        return connection
    if isinstance(connection, sqlite3.Connection):
        return _join_sqlite(connection)
    psycopg = sys.modules.get("psycopg")  # whoever holds one of its connections has imported it
    if psycopg is not None and isinstance(connection, psycopg.Connection):
        return _join_psycopg(connection, psycopg)
    return None


def meaning_of(error: DBAPIError, tables: Tables) -> Exception:
    """The typed error for what a driver raised, where there is one; else what the caller has learnt to catch."""
    meaning = as_outbox_error(error, tables)
    return error.raised if meaning is error and isinstance(error, DriverError) else meaning


def commits_by_itself(driver: Any) -> bool:
    """Whether a ``sqlite3`` connection is in autocommit mode, and nobody has begun a transaction by hand."""
    by_itself = driver.isolation_level is None or getattr(driver, "autocommit", None) is True
    return by_itself and not driver.in_transaction


def require_own_commit(by_itself: bool) -> None:
    """Raise :class:`~outbox.errors.TransactionError` where each statement would be its own transaction."""
    if by_itself:
        raise TransactionError("the connection is in autocommit mode: a message would be sent for data that is rolled back")


def _join_sqlite(connection: sqlite3.Connection) -> DriverTransaction:
    try:
        by_itself = commits_by_itself(connection)
    except sqlite3.ProgrammingError as error:  # closed, or another thread's
        raise TransactionError(f"the connection cannot take part: {error}") from error
    require_own_commit(by_itself)

    def cursor() -> AbstractContextManager[sqlite3.Cursor]:
        cursor = connection.cursor()
        cursor.row_factory = None
        return closing(cursor)

    return DriverTransaction(SQLITE, cursor, sqlite3.Error)


def _join_psycopg(connection: Any, psycopg: Any) -> DriverTransaction:
    status, statuses = connection.info.transaction_status, psycopg.pq.TransactionStatus
    if connection.closed or status == statuses.UNKNOWN:
        raise TransactionError("the connection is closed")
    if status == statuses.INERROR:
        raise TransactionError("the transaction has failed already: roll it back and begin anew")
    require_own_commit(connection.autocommit and status == statuses.IDLE)

    def cursor() -> AbstractContextManager[Any]:
        opened: AbstractContextManager[Any] = psycopg.Cursor(connection, row_factory=psycopg.rows.tuple_row)
        return opened

    return DriverTransaction(POSTGRESQL, cursor, psycopg.Error, lambda: bool(connection.closed))


@lru_cache(maxsize=64)
def _compile(statement: Executable, dialect: Dialect, many: bool) -> Any:
    """Texts and integers only, which every driver takes as they are. For many rows, so that no key is asked back."""
    return statement.compile(dialect=dialect, for_executemany=many)  # type: ignore[attr-defined]
