"""``add``: rows into the caller's own transaction."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Protocol

from sqlalchemy import BigInteger, Connection, Dialect, Executable, Integer, Select, bindparam, func, select

from outbox.errors import OutboxError
from outbox.lifecycle import Status
from outbox.message import Queued
from outbox.store.records import NewRow
from outbox.store.schema import literal
from outbox.store.sql import NOW, Sql

_LOOKUPS = 3
"""How often a key that conflicts and yet is not found is tried: its row was deleted, or rolled back, in between."""


class Joined(Protocol):
    """What runs a statement in the caller's transaction: a SQLAlchemy connection, or a driver's own in its clothes."""

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]], /) -> Any:
        """The answer of which ``scalar_one_or_none()`` is asked."""


def add(connection: Joined, sql: Sql, rows: Sequence[NewRow], now_ms: int) -> list[Queued]:
    """Insert ``rows`` through the caller's connection; one statement when none, or just one, carries an idempotency key.

    Keys are inserted in sorted order, so that two transactions with the same keys wait for each other instead of locking up.
    """
    plain = [row for row in rows if row.idempotency_key is None]
    keyed = sorted((row for row in rows if row.idempotency_key is not None), key=_key)
    if plain:
        _insert_plain(connection, sql, plain, now_ms)
    answers = {row.id: _add_keyed(connection, sql, row, now_ms) for row in keyed}
    return [answers.get(row.id) or Queued(row.id, created=True) for row in rows]


def _insert_plain(connection: Joined, sql: Sql, rows: Sequence[NewRow], now_ms: int) -> None:
    """The driver gets the text as it was compiled once: for one row, SQLAlchemy's way to it takes longer than the insert."""
    if isinstance(connection, Connection):
        text, values = _ready_insert(sql, connection.dialect)
        ready = [values((*row, now_ms)) for row in rows]
        connection.exec_driver_sql(text, ready if len(ready) > 1 else ready[0])
    else:
        connection.execute(_insert(sql), [_named(sql, row, now_ms) for row in rows])


def _add_keyed(connection: Joined, sql: Sql, row: NewRow, now_ms: int) -> Queued:
    for _ in range(_LOOKUPS):
        inserted = connection.execute(_insert_keyed(sql), _named(sql, row, now_ms)).scalar_one_or_none()
        if inserted is not None:
            return Queued(inserted, created=True)
        existing = connection.execute(
            _find_keyed(sql), {"channel": row.channel, "idempotency_key": row.idempotency_key}
        ).scalar_one_or_none()
        if existing is not None:
            return Queued(existing, created=False)
    raise OutboxError(
        f"the idempotency key {row.idempotency_key!r} of channel {row.channel!r} conflicts with a row that this "
        "transaction cannot see; its isolation level is above read committed: retry the whole transaction"
    )


def _key(row: NewRow) -> tuple[str, str | None]:
    return row.channel, row.idempotency_key


def _named(sql: Sql, row: NewRow, now_ms: int) -> dict[str, Any]:
    return row._asdict() | ({NOW: now_ms} if sql.binds_now else {})


@lru_cache(maxsize=64)
def _insert(sql: Sql) -> Any:
    due_at = bindparam("due_at", type_=BigInteger)
    ttl_ms = bindparam("ttl_ms", type_=BigInteger)
    due = func.coalesce(due_at, sql.began + bindparam("delay_ms", type_=BigInteger))
    return sql.dialect.insert(sql.tables.messages).values(
        **{name: bindparam(name) for name in _COPIED},
        status=literal(Status.QUEUED),
        queued_at=sql.began,
        next_attempt_at=due,
        ttl_ms=ttl_ms,
        expires_at=due + ttl_ms,  # never, where there is no TTL
        stamped=bindparam("stamped", type_=Integer),
    )


@lru_cache(maxsize=64)
def _ready_insert(sql: Sql, dialect: Dialect) -> tuple[str, Callable[[tuple[Any, ...]], Any]]:
    """The text in the driver's style, and what makes its parameters of a row. For many rows, so that no key is asked back."""
    compiled = _insert(sql).compile(dialect=dialect, for_executemany=True)
    if compiled.positional:
        return compiled.string, itemgetter(*map(_BOUND.index, compiled.positiontup))
    return compiled.string, lambda values: dict(zip(_BOUND, values, strict=True))


@lru_cache(maxsize=64)
def _insert_keyed(sql: Sql) -> Any:
    messages = sql.tables.messages
    return (
        _insert(sql)
        .on_conflict_do_nothing(
            index_elements=[messages.c.channel, messages.c.idempotency_key],
            index_where=messages.c.idempotency_key.is_not(None),
        )
        .returning(messages.c.id)
    )


@lru_cache(maxsize=64)
def _find_keyed(sql: Sql) -> Select[Any]:
    c = sql.tables.messages.c
    return select(c.id).where(
        c.channel == bindparam("channel"),
        c.idempotency_key == bindparam("idempotency_key"),
        c.idempotency_key.is_not(None),
    )


_BOUND = (*NewRow._fields, NOW)
_COPIED = (
    "id", "channel", "account_id", "target", "turn_id", "dispatch_kind", "payload", "headers", "ordering_key", "priority",
    "idempotency_key", "max_attempts",
)  # fmt: skip
