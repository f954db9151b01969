"""``expire``, ``rescue``, ``prune`` and ``blank``: what maintenance does, in bounded batches.

Each that writes locks the rows it means with ``skip locked`` and repeats its whole predicate outside the lock's subquery;
without that PostgreSQL may write a row that changed between the two.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    FromClause,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    delete,
    func,
    select,
    update,
)

from outbox.lifecycle import Event, Status, sources, target
from outbox.message import ErrorClass, Message
from outbox.policy.retry import Verdict
from outbox.store.blocking import gaps_left_by, unblock
from outbox.store.conditions import locked_batch
from outbox.store.leaping import leap
from outbox.store.records import Completed, Settlement
from outbox.store.schema import literal, status_in
from outbox.store.settling import settle
from outbox.store.sql import Sql, Transaction, columns_of_message, to_message


def expire(tx: Transaction, limit: int) -> int:
    """End rows older than their TTL, whatever the state of their channel; rows being sent are left alone."""
    rows = tx.execute(_expire(tx.sql), limit=limit).all()
    unblock(tx, gaps_left_by(rows))
    return len(rows)


def rescue(tx: Transaction, decide: Callable[[Message], Verdict | None], limit: int, *, owner: str | None = None) -> int:
    """Bring back rows whose sender is gone: those whose lease ran out or, with ``owner``, those of a process proven dead.

    ``decide`` says what becomes of each; ``None`` leaves the row alone.
    """
    statement = _overdue(tx.sql) if owner is None else _owned(tx.sql)
    rows = tx.execute(statement, limit=limit, **({} if owner is None else {"owner": owner})).all()
    verdicts = [(message, decide(message)) for message in map(to_message, rows)]
    settlements = [
        Settlement(message.id, message.lease, verdict, outcome="rescued") for message, verdict in verdicts if verdict
    ]
    return len(settle(tx, settlements).recorded)


def completed(tx: Transaction) -> list[Completed]:
    """Each channel and terminal status of which rows are kept, with the age of the oldest: one index entry read for each."""
    return [Completed(row.channel, Status(row.status), row.age) for row in tx.execute(_completed(tx.sql))]


def prune(tx: Transaction, channel: str, status: Status, kept_ms: int, limit: int) -> int:
    """Delete a channel's rows of a terminal status that were completed more than ``kept_ms`` ago, with their attempt log."""
    ids = tx.execute(_prune(tx.sql, status), of_channel=channel, kept_ms=kept_ms, limit=limit).scalars().all()
    if ids:
        tx.execute_on(_forget(tx.sql), [{"id": message_id} for message_id in ids])
    return len(ids)


def prunable(tx: Transaction, channel: str, status: Status, kept_ms: int) -> int:
    """How many rows :func:`prune` would delete in all."""
    m = tx.sql.tables.messages
    statement = select(func.count()).select_from(m).where(_outlived(tx.sql, status))
    return int(tx.execute(statement, of_channel=channel, kept_ms=kept_ms).scalar_one())


def blank(tx: Transaction, channel: str, status: Status, after_ms: int, since: int, limit: int) -> tuple[int, int]:
    """Empty payload and headers of rows completed at or after ``since`` (epoch ms) and more than ``after_ms`` ago.

    Returns how many, and the completion time from which to go on.
    """
    blanked = tx.execute(_blank(tx.sql, status), of_channel=channel, kept_ms=after_ms, since=since, limit=limit).scalars().all()
    return len(blanked), max(blanked, default=since)


@lru_cache(maxsize=64)
def _expire(sql: Sql) -> Update:
    m = sql.tables.messages
    old = and_(status_in(m, sources(Event.EXPIRE)), m.c.expires_at.is_not(None), m.c.expires_at < sql.now)
    return (
        update(m)
        .where(locked_batch(sql, old, m.c.expires_at))
        .values(
            status=literal(target(Event.EXPIRE)),
            completed_at=sql.now,
            error_class=literal(ErrorClass.EXPIRED),
            terminal_reason="older than its TTL",
            lease_until=None,
            blocked=literal(0),
        )
        .returning(m.c.seq, m.c.channel, m.c.ordering_key, m.c.status)
    )


@lru_cache(maxsize=64)
def _overdue(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    return (
        select(*columns_of_message(m))
        .where(m.c.status == literal(Status.SENDING), m.c.lease_until < sql.now)
        .order_by(m.c.lease_until, m.c.seq)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


@lru_cache(maxsize=64)
def _owned(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    return (
        select(*columns_of_message(m))
        .where(m.c.status == literal(Status.SENDING), m.c.lease_owner == bindparam("owner"))
        .order_by(m.c.lease_until, m.c.seq)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


@lru_cache(maxsize=64)
def _prune(sql: Sql, status: Status) -> Any:
    m = sql.tables.messages
    return delete(m).where(locked_batch(sql, _outlived(sql, status), m.c.completed_at)).returning(m.c.id)


def _outlived(sql: Sql, status: Status) -> ColumnElement[bool]:
    m = sql.tables.messages
    return and_(
        m.c.channel == bindparam("of_channel"),
        m.c.status == literal(status),
        m.c.completed_at.is_not(None),
        m.c.completed_at < sql.now - bindparam("kept_ms", type_=BigInteger),
    )


@lru_cache(maxsize=64)
def _blank(sql: Sql, status: Status) -> Any:
    m = sql.tables.messages
    old = and_(_outlived(sql, status), m.c.completed_at >= bindparam("since", type_=BigInteger), m.c.blanked_at.is_(None))
    return (
        update(m)
        .where(locked_batch(sql, old, m.c.completed_at))
        .values(payload=None, headers=None, blanked_at=sql.now)
        .returning(m.c.completed_at)
    )


@lru_cache(maxsize=64)
def _completed(sql: Sql) -> Select[Any]:
    def over(row: FromClause) -> ColumnElement[bool]:
        return row.c.completed_at.is_not(None)

    prefix = ("channel", "status")
    found = leap(sql.tables.messages, prefix, (*prefix, "completed_at"), over, (literal(""), literal("")))
    return select(found.c.channel, found.c.status, (sql.now - found.c.completed_at).label("age"))


@lru_cache(maxsize=64)
def _forget(sql: Sql) -> Delete:
    log = sql.tables.attempts
    r = sql.dialect.records("r", {"id": Text()})
    return delete(log).where(sql.dialect.among(log.c.message_id, select(r.c.id)))
