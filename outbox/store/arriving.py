"""``pending`` and what is in flight: what a relay pass finds to do; ``stamp``: the defaults of who only enqueues."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    Update,
    bindparam,
    func,
    literal_column,
    select,
    union_all,
    update,
)

from outbox.lifecycle import Status
from outbox.message import Message
from outbox.store import gating
from outbox.store.conditions import in_flight, in_flight_by
from outbox.store.leaping import lanes
from outbox.store.records import Lane, Pending, Stamp
from outbox.store.schema import literal
from outbox.store.sql import Sql, Transaction, columns_of_message, to_message


def pending(tx: Transaction, channels: Sequence[str]) -> Pending:
    """What there is to do for ``channels``, in one statement that reads one index entry per channel and priority, and those of
    what is in flight where something is due; a second one reads the gates where there is anything to do.
    """
    lanes, unstamped, overdue = [], False, False
    for row in tx.execute(_pending(tx.sql), channels=list(channels)):
        if row.kind == "due":
            lanes.append(Lane(row.channel, row.priority, row.next_attempt_at, row.in_flight))
        elif row.kind == "unstamped":
            unstamped = True
        else:
            overdue = True
    found = Pending(lanes, unstamped, overdue)
    return replace(found, gates=gating.gates(tx, closed_only=False)) if found else found


def held_by_priority(tx: Transaction, channel: str) -> dict[int, int]:
    """How many of a channel's rows are dispatched or being sent, by their priority."""
    return {row.priority: row.rows for row in tx.execute(_held_by_priority(tx.sql), channel=channel)}


def stamp(tx: Transaction, channels: Sequence[str], defaults: Callable[[Message], Stamp], limit: int) -> int:
    """Give rows of applications that do not know their channel its defaults; returns how many."""
    rows = tx.execute(_unstamped(tx.sql), channels=list(channels), limit=limit).all()
    if not rows:
        return 0
    stamps = [defaults(to_message(row)) for row in rows]
    records = [{"id": s.id, "max_attempts": s.max_attempts, "ttl_ms": s.ttl_ms, "ordering_key": s.ordering_key} for s in stamps]
    return tx.execute_on(_stamp(tx.sql), records).rowcount


@lru_cache(maxsize=64)
def _pending(sql: Sql) -> Any:
    m = sql.tables.messages
    known = m.c.channel.in_(bindparam("channels", expanding=True))
    lane = lanes(m)
    none: ColumnElement[int] = literal_column("0")
    unstamped = select(m.c.seq).where(m.c.status == literal(Status.QUEUED), m.c.stamped == literal(0), known).limit(1)
    overdue = select(m.c.seq).where(m.c.status == literal(Status.DISPATCHED), known, m.c.lease_until < sql.now).limit(1)
    return union_all(
        select(
            literal("due").label("kind"), lane.c.channel, lane.c.priority, lane.c.next_attempt_at,
            in_flight(sql, lane.c.channel).label("in_flight"),
        ).where(lane.c.next_attempt_at <= sql.now, lane.c.channel.in_(bindparam("channels", expanding=True))),
        select(literal("unstamped"), literal(""), none, none, none).where(unstamped.exists()),
        select(literal("overdue"), literal(""), none, none, none).where(overdue.exists()),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _held_by_priority(sql: Sql) -> Select[Any]:
    return in_flight_by(sql, "priority")


@lru_cache(maxsize=64)
def _unstamped(sql: Sql) -> Select[Any]:
    """Oldest first, and waiting for a stamp under way: a row must not get its ordering key after a later one of that key."""
    m = sql.tables.messages
    return (
        select(*columns_of_message(m))
        .where(
            m.c.status == literal(Status.QUEUED),
            m.c.stamped == literal(0),
            m.c.channel.in_(bindparam("channels", expanding=True)),
        )
        .order_by(m.c.seq)
        .limit(bindparam("limit"))
        .with_for_update()
    )


@lru_cache(maxsize=64)
def _stamp(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"id": Text(), "max_attempts": Integer(), "ttl_ms": BigInteger(), "ordering_key": Text()})
    return (
        update(m)
        .where(sql.dialect.named(m.c.id, r.c.id), m.c.status == literal(Status.QUEUED), m.c.stamped == literal(0))
        .values(
            stamped=literal(1),
            max_attempts=func.coalesce(m.c.max_attempts, r.c.max_attempts),
            ordering_key=func.coalesce(m.c.ordering_key, r.c.ordering_key),
            ttl_ms=func.coalesce(m.c.ttl_ms, r.c.ttl_ms),
            expires_at=func.coalesce(m.c.expires_at, m.c.next_attempt_at + r.c.ttl_ms),
        )
    )
