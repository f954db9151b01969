"""What a database driver's error means to the outbox: busy, out of reach, not upgraded, or a defect of the statement."""

from sqlalchemy.exc import DBAPIError

from outbox.errors import DatabaseBusy, DatabaseUnavailable, SchemaError, TransactionError
from outbox.store.schema import Tables

_DEADLOCK = frozenset({"40001", "40P01"})
_BUSY = _DEADLOCK | {"55P03"}
_READ_ONLY = "25006"
_FAILED = "25P02"
_UNDEFINED_TABLE = "42P01"
_OUT_OF_REACH = ("08", "53", "57P", "58")
"""SQLSTATE classes: connection, resources (disk, memory, connections), shutdown, system."""

_SQLITE_OUT_OF_REACH = ("unable to open database file", "disk is full", "disk i/o error", "not a database")


def as_outbox_error(error: DBAPIError, tables: Tables) -> Exception:
    """The typed error for what a driver raised, where there is one; else ``error`` itself."""
    text = str(error.orig).strip()
    first_line = text.splitlines()[0] if text else type(error.orig).__name__
    state = _sqlstate(error)
    if state == _UNDEFINED_TABLE or "no such table" in text:
        return SchemaError(f"the table {tables.messages.name!r} does not exist: run `outbox db upgrade`")
    if state in _BUSY or "database is locked" in text or "database table is locked" in text:
        return DatabaseBusy(f"the database stayed locked: {first_line}")
    if state == _FAILED:
        return TransactionError("the transaction has failed already: roll it back and begin anew")
    if state == _READ_ONLY or "readonly database" in text:
        return TransactionError(f"the transaction is read-only, so nothing can be written: {first_line}")
    if _is_out_of_reach(error, state, text.lower()):
        return DatabaseUnavailable(f"the database cannot be reached: {first_line}")
    return error


def may_run_again(error: DBAPIError) -> bool:
    """Whether the transaction was rolled back for another's sake, or its connection was lost: a fenced verb runs again."""
    return error.connection_invalidated or _sqlstate(error) in _DEADLOCK


def _sqlstate(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def _is_out_of_reach(error: DBAPIError, state: str | None, text: str) -> bool:
    if error.connection_invalidated or (state is not None and state.startswith(_OUT_OF_REACH)):
        return True
    never_connected = error.statement is None and type(error.orig).__name__ == "OperationalError"
    return never_connected or any(phrase in text for phrase in _SQLITE_OUT_OF_REACH)
