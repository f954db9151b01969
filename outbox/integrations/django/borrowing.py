"""A SQLAlchemy engine on Django's own connection, whose transactions are Django's ``atomic`` blocks.

For what must stand in the same transaction as Django's own work: migrations, what operators do in the admin beside its log,
and tests, whose transaction is never committed.
"""

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from sqlalchemy import Connection, Engine, NullPool, create_engine, event

from outbox.channels.base import Channel
from outbox.integrations.django import database
from outbox.outbox import Outbox
from outbox.store.sqlstore import SQLStore, open_store

_ADDRESSES: dict[str, tuple[str, dict[str, Any]]] = {
    "sqlite": ("sqlite://", {}),
    "postgresql": ("postgresql+psycopg://", {"use_native_hstore": False}),  # whose registration is the connection's business
}


def store_on(alias: str, table_name: str) -> SQLStore:
    """The outbox's verbs in the open transaction of the alias: each is a savepoint of it, or a block where none is open."""
    return open_store(engine=engine_on(alias), table_name=table_name)


def outbox_on(alias: str, table_name: str, channels: Iterable[Channel] = ()) -> Outbox:
    """An outbox that works in the open transaction of the alias, in the same way."""
    return Outbox(engine=engine_on(alias), table_name=table_name, channels=channels)


def engine_on(alias: str) -> Engine:
    """The engine; its connections are those that Django has in the thread that asks."""
    address, options = _ADDRESSES[database.wrapper_of(alias).vendor]
    engine = create_engine(address, creator=lambda: _Borrowed(alias), poolclass=NullPool, pool_reset_on_return=None, **options)
    event.listen(engine, "begin", _begin)
    return engine


class _Borrowed:
    """Django's DB-API connection as SQLAlchemy wants it. What SQLAlchemy sets up on a connection of its own is left out."""

    def __init__(self, alias: str) -> None:
        self._wrapper = database.wrapper_of(alias)
        self._wrapper.ensure_connection()
        self._block: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapper.connection, name)

    def begin(self) -> None:
        self._block = transaction.atomic(using=self._wrapper.alias)
        self._block.__enter__()

    def commit(self) -> None:
        self._leave(None, None)

    def rollback(self) -> None:
        self._leave(_RolledBack, _RolledBack())

    def close(self) -> None:
        """It is Django's."""

    def add_notice_handler(self, _handler: object) -> None:
        """psycopg: Django's connection has handlers of its own."""

    def create_function(self, *_function: object, **_options: object) -> None:
        """SQLite: the outbox uses no function of SQLAlchemy's."""

    def _leave(self, kind: "type[_RolledBack] | None", why: "_RolledBack | None") -> None:
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(kind, why, None)


class _RolledBack(Exception):
    """Tells an ``atomic`` block to roll back."""


def _begin(connection: Connection) -> None:
    borrowed: Any = connection.connection.dbapi_connection
    borrowed.begin()
