"""Order within a key: who is at the head, who may follow in the same task, and who has to wait."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    select,
)

from outbox.lifecycle import ACTIVE, Event, Status, sources
from outbox.store.blocking import mark_blocked
from outbox.store.conditions import locked_if, not_waiting_untried, unexpired
from outbox.store.schema import literal, status_in
from outbox.store.sql import Sql, Transaction


@dataclass(frozen=True, slots=True)
class InTurn:
    """The rows that may be dispatched now, key by key in their order, and how many others left the due index as blocked."""

    chosen: Sequence[Sequence[Row[Any]]] = ()
    blocked: int = 0


def in_order(
    tx: Transaction, channel: str, rows: Sequence[Row[Any]], *, limit: int, per_key: int, closed: Container[str]
) -> InTurn:
    """Sort due rows of ``channel`` into heads, with the followers that may travel along, and rows that must wait."""
    if not rows:
        return InTurn()
    keys = sorted({row.ordering_key for row in rows})
    fronts = {row.key: row for row in tx.execute_on(_fronts(tx.sql), [{"key": key} for key in keys], channel=channel)}
    blockers = {row.seq: _blocker(row, fronts[row.ordering_key]) for row in rows}
    heads = [row for row in rows if blockers[row.seq] is None]
    room = min((limit - len(heads)) // max(1, len(heads)), per_key - 1)
    followers = _followers(tx, channel, heads, room, closed)
    lines: dict[str, list[Row[Any]]] = {}
    for row in sorted((*heads, *followers), key=lambda row: row.seq):
        lines.setdefault(row.ordering_key, []).append(row)
    chosen = {row.seq for line in lines.values() for row in line}
    waiting = {row.seq: blocker for row in rows if (blocker := blockers[row.seq]) is not None and row.seq not in chosen}
    blocked = mark_blocked(tx, waiting, locked={row.seq for row in rows} | chosen)
    return InTurn(list(lines.values()), blocked)


def _blocker(row: Row[Any], front: Row[Any]) -> int | None:
    """The seq of the active row that this one must wait for: an earlier one, or one of any seq that is being sent."""
    if front.head is not None and front.head < row.seq:
        return int(front.head)
    if front.sending is not None and front.sending != row.seq:
        return int(front.sending)
    return None


def _followers(tx: Transaction, channel: str, heads: Sequence[Row[Any]], room: int, closed: Container[str]) -> list[Row[Any]]:
    records = [{"key": row.ordering_key, "seq": row.seq} for row in heads if not row.outcome_unknown]
    if room < 1 or not records:
        return []
    behind: dict[str, list[Row[Any]]] = {}
    for row in tx.execute_on(_behind(tx.sql), records, channel=channel, room=room):
        behind.setdefault(row.ordering_key, []).append(row)
    chosen = [row for rows in behind.values() for row in _unbroken(rows, closed)]
    if not tx.sql.dialect.locks_rows or not chosen:
        return chosen
    locked = set(tx.execute_on(_lock_followers(tx.sql), [{"seq": row.seq} for row in chosen]).scalars())
    return [row for rows in behind.values() for row in _unbroken(rows, closed, locked)]


def _unbroken(rows: Sequence[Row[Any]], closed: Container[str], locked: set[int] | None = None) -> list[Row[Any]]:
    """The rows that follow each other without an active row between that does not come along."""
    chosen = []
    for row in rows:
        if row.waits_untried:
            continue
        if not row.may_follow or row.target in closed or (locked is not None and row.seq not in locked):
            break
        chosen.append(row)
    return chosen


@lru_cache(maxsize=64)
def _fronts(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"key": Text()})
    head, sending = m.alias("head"), m.alias("busy")

    def of_key(row: Any) -> ColumnElement[bool]:
        return and_(row.channel == bindparam("channel"), row.ordering_key == r.c.key, row.ordering_key.is_not(None))

    first = (
        select(head.c.seq)
        .where(of_key(head.c), status_in(head, ACTIVE), not_waiting_untried(sql, head.c))
        .order_by(head.c.seq)
        .limit(1)
    )
    busy = select(sending.c.seq).where(of_key(sending.c), sending.c.status == literal(Status.SENDING)).limit(1)
    return select(
        r.c.key,
        first.correlate(r).scalar_subquery().label("head"),
        busy.correlate(r).scalar_subquery().label("sending"),
    )


@lru_cache(maxsize=64)
def _behind(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"key": Text(), "seq": BigInteger()})
    beyond = m.alias("beyond")
    next_ones = (
        select(beyond.c.seq)
        .where(
            beyond.c.channel == bindparam("channel"),
            beyond.c.ordering_key == r.c.key,
            beyond.c.ordering_key.is_not(None),
            status_in(beyond, ACTIVE),
            beyond.c.seq > r.c.seq,
        )
        .order_by(beyond.c.seq)
        .limit(bindparam("room"))
    )
    return (
        select(
            m.c.seq,
            m.c.target,
            m.c.ordering_key,
            m.c.outcome_unknown,
            _may_follow(sql, m).label("may_follow"),
            (~not_waiting_untried(sql, m.c)).label("waits_untried"),
        )
        .where(sql.dialect.among(m.c.seq, sql.dialect.for_each(r, next_ones)))
        .order_by(m.c.ordering_key, m.c.seq)
    )


def _may_follow(sql: Sql, m: Table) -> ColumnElement[bool]:
    return and_(
        status_in(m, sources(Event.CLAIM)),
        m.c.next_attempt_at <= sql.now,
        unexpired(sql, m.c),
        m.c.stamped == literal(1),
        m.c.outcome_unknown == literal(0),
    )


@lru_cache(maxsize=64)
def _lock_followers(sql: Sql) -> Select[Any]:
    return locked_if(sql, _may_follow(sql, sql.tables.messages))
