"""Joining the transaction that an application's session or connection holds: SQLAlchemy's, or a driver's own."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, event
from sqlalchemy.exc import InvalidRequestError

from outbox import checkpoints, dbapi
from outbox.errors import TransactionError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction

_log = logging.getLogger("outbox")


def connection_of(handle: Any) -> Connection | dbapi.DriverTransaction:
    """The connection in whose transaction a message is to be written. Raises :class:`~outbox.errors.TransactionError`."""
    if hasattr(handle, "run_sync"):
        raise TransactionError(f"an {type(handle).__name__} needs `await outbox.aenqueue(...)`")
    handle = _unwrapped(handle)
    if (joined := dbapi.join(handle)) is not None:
        return joined
    if not (_is_session(handle) or isinstance(handle, Connection)):
        raise TransactionError(
            "enqueue needs what holds your open transaction as its first argument: a Session or Connection of SQLAlchemy, or a"
            f" connection of sqlite3 or psycopg; not {type(handle).__name__}"
        )
    try:
        connection: Connection = handle if isinstance(handle, Connection) else handle.connection()
        if handle is connection and not connection.in_transaction():
            connection.begin()
    except InvalidRequestError as error:
        raise TransactionError(f"the {type(handle).__name__} cannot take part: {error}") from error
    if not connection.in_transaction():
        raise TransactionError("the session's transaction is over already, and its connection will not be committed")
    dbapi.require_own_commit(_commits_by_itself(connection))
    return connection


def async_handle(handle: Any) -> Any:
    """What can run :func:`connection_of` in its greenlet. Raises :class:`~outbox.errors.TransactionError`."""
    if hasattr(handle, "registry"):  # an async_scoped_session
        handle = handle()
    if not hasattr(handle, "run_sync"):
        raise TransactionError(f"aenqueue needs an AsyncSession or AsyncConnection of SQLAlchemy, not {type(handle).__name__}")
    return handle


OnCommit = Callable[[str, bool], object]
"""Called with a channel that has a new message, and whether the commit is done (``True``) or about to be."""


@dataclass(frozen=True, slots=True)
class WakeUp:
    """What is to be done after a commit, once however many messages of the channel it holds."""

    call: OnCommit
    channel: str


def after_commit(handle: Any, wake_up: WakeUp) -> None:
    """Call once when the handle's transaction has been committed; a rollback forgets it.

    A session says so when the commit is done; a bare connection, just before. A driver's own connection says nothing.
    """
    handle = _unwrapped(handle)
    if (joined := dbapi.join(handle)) is not None:
        joined.after_commit(partial(wake_up.call, wake_up.channel, True))
        return
    if _is_session(handle):
        _listen(_orm("Session"), after_commit=_session_committed, after_transaction_end=_session_ended)
    else:
        _listen(handle.engine, commit=_call, rollback=_forget)
    _waiting.setdefault(handle, set()).add(wake_up)


_waiting: WeakKeyDictionary[Any, set[WakeUp]] = WeakKeyDictionary()
"""What each session or connection does after its commit."""

_listening: WeakSet[Any] = WeakSet()
"""The engines, and the class of sessions, whose events are heard. Once for all: it takes as long as the message's insert."""


def _listen(source: Any, **listeners: Callable[..., None]) -> None:
    if source not in _listening:
        for name, listener in listeners.items():
            event.listen(source, name, listener)
        _listening.add(source)


def _session_committed(session: "Session") -> None:
    if not session.in_nested_transaction():  # the release of a savepoint is reported as a commit too
        _call(session)


def _session_ended(session: "Session", transaction: "SessionTransaction") -> None:
    if transaction.parent is None:  # rolled back, or closed without a word
        _forget(session)


def _call(handle: "Session | Connection") -> None:
    wake_ups = _waiting.pop(handle, None)
    if not wake_ups:
        return
    checkpoints.reach("enqueue", "nudge")
    for wake_up in wake_ups:
        try:
            wake_up.call(wake_up.channel, _is_session(handle))
        except Exception:  # the data is committed, or about to be: nothing may tell the application otherwise
            _log.exception("what was to be done after the commit failed")


def _forget(handle: "Session | Connection") -> None:
    _waiting.pop(handle, None)


def _unwrapped(handle: Any) -> Any:
    scoped = _orm("scoped_session")
    return handle() if scoped is not None and isinstance(handle, scoped) else handle


def _is_session(handle: Any) -> bool:
    session = _orm("Session")
    return session is not None and isinstance(handle, session)


def _orm(name: str) -> Any:
    """What SQLAlchemy's ORM calls so, if anybody has loaded it: a process without sessions need not, and starts sooner."""
    return getattr(sys.modules.get("sqlalchemy.orm"), name, None)


def _commits_by_itself(connection: Connection) -> bool:
    """Asked of the driver, because an engine, an option or the driver's own connection may have been told so."""
    if connection.dialect.name != "sqlite":
        return getattr(connection.connection.dbapi_connection, "autocommit", False) is True
    return dbapi.commits_by_itself(connection.connection.driver_connection)  # an application's own hook may have begun one
