"""``tally``, ``tallies`` and ``forget_tallies``: what became of messages, minute by minute, counted from the completed index.

A mark for each channel and outcome says up to which row it is counted. Whoever counts on locks the mark, adds to the tallies
and moves the mark in one transaction, so that any number of maintenances and any crash leave each row counted once. Where
writers run side by side a row may be committed after one that was completed later; hence nothing is counted before the
longest frozen transaction would have been ended.
"""

from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnClause,
    ColumnElement,
    Delete,
    FromClause,
    Integer,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.types import TypeEngine

from outbox.lifecycle import Status
from outbox.store.leaping import leap
from outbox.store.postgresql import FROZEN_TRANSACTION_MS
from outbox.store.records import Tally
from outbox.store.schema import literal
from outbox.store.sql import Sql, Transaction

MINUTE_MS = 60_000
KEPT_MS = 7 * 24 * 60 * MINUTE_MS
"""How long tallies are kept, and how far back counting begins."""
LATE_COMMIT_MS = FROZEN_TRANSACTION_MS + 5_000
"""After this long no transaction that completed a row can still be open."""

_SUMS = ("minute", "messages", "latency_sum_ms", "latency_max_ms")
_START: ColumnClause[int] = literal_column("start_ms")


def tally(tx: Transaction, limit: int) -> int:
    """Count up to ``limit`` outcomes that are not counted yet; returns how many. One statement where there are none."""
    counted = 0
    for place in tx.execute(_uncounted(tx.sql)).all():
        if counted < limit:
            counted += _count(tx, place.channel, Status(place.status), limit - counted)
    return counted


def tallies(tx: Transaction, since_ms: int, step_ms: int) -> list[Tally]:
    """Outcomes since ``since_ms`` (epoch milliseconds), summed over steps of ``step_ms``, a multiple of a minute."""
    rows = tx.execute(_tallies(tx.sql), since_ms=since_ms, step_ms=step_ms)
    return [Tally(row.start_ms, row.channel, Status(row.outcome), row.messages, row.total, row.longest) for row in rows]


def forget_tallies(tx: Transaction) -> int:
    """Delete the tallies of more than a week ago; returns how many."""
    return tx.execute(_forget(tx.sql)).rowcount


def _count(tx: Transaction, channel: str, outcome: Status, limit: int) -> int:
    mark = tx.execute(_lock_mark(tx.sql), channel=channel, outcome=str(outcome)).one()
    place = {"of_channel": channel, "marked_at": mark.completed_at, "marked_seq": mark.seq}
    minutes = tx.execute(_next(tx.sql, outcome), **place, limit=limit).all()
    if minutes:
        records = [{"channel": channel, "outcome": outcome, **{name: row._mapping[name] for name in _SUMS}} for row in minutes]
        tx.execute_on(_add(tx.sql), records)
        at = max(row.last_completed_at for row in minutes)
        tx.execute(_move_mark(tx.sql), of_channel=channel, of_outcome=str(outcome), at=at, to_seq=minutes[0].last_seq)
    return sum(row.messages for row in minutes)


def _closed_before(sql: Sql) -> ColumnElement[int]:
    """What was completed before this moment is committed or never will be."""
    return sql.now - literal(LATE_COMMIT_MS) if sql.dialect.locks_rows else sql.now


@lru_cache(maxsize=64)
def _uncounted(sql: Sql) -> Select[Any]:
    """Channels and outcomes of which rows wait to be counted: two index entries read for each."""

    def over(row: FromClause) -> ColumnElement[bool]:
        return row.c.completed_at.is_not(None)

    m, marks = sql.tables.messages, sql.tables.tally_marks
    prefix = ("channel", "status")
    found = leap(m, prefix, (*prefix, "completed_at"), over, (literal(""), literal("")))
    mark = and_(marks.c.channel == found.c.channel, marks.c.outcome == found.c.status)
    marked = tuple_(func.coalesce(marks.c.completed_at, sql.now - literal(KEPT_MS)), func.coalesce(marks.c.seq, literal(0)))
    waiting = (
        select(m.c.seq)
        .where(
            m.c.channel == found.c.channel,
            m.c.status == found.c.status,
            m.c.completed_at.is_not(None),
            tuple_(m.c.completed_at, m.c.seq) > marked,
            m.c.completed_at < _closed_before(sql),
        )
        .order_by(m.c.completed_at, m.c.seq)
        .limit(literal(1))
        .correlate(found, marks)
        .scalar_subquery()
    )
    return (
        select(found.c.channel, found.c.status)
        .select_from(found.outerjoin(marks, mark))
        .where(waiting.is_not(None))  # an `exists` would be made a join that reads the whole table
        .order_by(found.c.channel, found.c.status)
    )


@lru_cache(maxsize=64)
def _lock_mark(sql: Sql) -> Any:
    """The mark, made where there is none; whoever else counts the same waits here, and then goes on from the moved mark."""
    marks = sql.tables.tally_marks
    insert = sql.dialect.insert(marks).values(
        channel=bindparam("channel"), outcome=bindparam("outcome"), completed_at=sql.now - literal(KEPT_MS), seq=literal(0)
    )
    return insert.on_conflict_do_update(index_elements=[marks.c.channel, marks.c.outcome], set_={"seq": marks.c.seq}).returning(
        marks.c.completed_at, marks.c.seq
    )


@lru_cache(maxsize=64)
def _next(sql: Sql, outcome: Status) -> Select[Any]:
    """The minutes of the rows beyond the mark, and the last of those rows.

    Their latency counts from the moment at which each was first due, where that is known.
    """
    m = sql.tables.messages
    marked = tuple_(bindparam("marked_at", type_=BigInteger), bindparam("marked_seq", type_=BigInteger))
    latency_ms = m.c.completed_at - func.coalesce(m.c.expires_at - m.c.ttl_ms, m.c.queued_at)
    completed = (
        select(m.c.completed_at, m.c.seq, case((latency_ms > literal(0), latency_ms), else_=literal(0)).label("latency_ms"))
        .where(
            m.c.channel == bindparam("of_channel"),
            m.c.status == literal(outcome),
            m.c.completed_at.is_not(None),
            tuple_(m.c.completed_at, m.c.seq) > marked,
            m.c.completed_at < _closed_before(sql),
        )
        .order_by(m.c.completed_at, m.c.seq)
        .limit(bindparam("limit"))
    )
    rows = completed.cte("completed").prefix_with("MATERIALIZED")  # once, whatever a planner thinks is best
    minute = (rows.c.completed_at - rows.c.completed_at % literal(MINUTE_MS)).label("minute")
    last = select(rows.c.seq).order_by(rows.c.completed_at.desc(), rows.c.seq.desc()).limit(literal(1)).scalar_subquery()
    return select(
        minute,
        func.count().label("messages"),
        func.sum(rows.c.latency_ms).cast(BigInteger).label("latency_sum_ms"),
        func.max(rows.c.latency_ms).label("latency_max_ms"),
        func.max(rows.c.completed_at).label("last_completed_at"),
        last.label("last_seq"),
    ).group_by(minute)


@lru_cache(maxsize=64)
def _add(sql: Sql) -> Any:
    t = sql.tables.tallies
    columns: dict[str, TypeEngine[Any]] = {
        "minute": BigInteger(), "channel": Text(), "outcome": Text(), "messages": Integer(),
        "latency_sum_ms": BigInteger(), "latency_max_ms": BigInteger(),
    }  # fmt: skip
    r = sql.dialect.records("r", columns)
    rows = select(*(r.c[name] for name in columns)).where(literal(1) == literal(1))
    insert = sql.dialect.insert(t).from_select(list(columns), rows)
    new = insert.excluded
    longer = new.latency_max_ms > t.c.latency_max_ms
    return insert.on_conflict_do_update(
        index_elements=[t.c.minute, t.c.channel, t.c.outcome],
        set_={
            "messages": t.c.messages + new.messages,
            "latency_sum_ms": t.c.latency_sum_ms + new.latency_sum_ms,
            "latency_max_ms": case((longer, new.latency_max_ms), else_=t.c.latency_max_ms),
        },
    )


@lru_cache(maxsize=64)
def _move_mark(sql: Sql) -> Update:
    marks = sql.tables.tally_marks
    return (
        update(marks)
        .where(marks.c.channel == bindparam("of_channel"), marks.c.outcome == bindparam("of_outcome"))
        .values(completed_at=bindparam("at", type_=BigInteger), seq=bindparam("to_seq", type_=BigInteger))
    )


@lru_cache(maxsize=64)
def _tallies(sql: Sql) -> Select[Any]:
    t = sql.tables.tallies
    start = (t.c.minute - t.c.minute % bindparam("step_ms", type_=BigInteger)).label(_START.name)
    return (
        select(
            start, t.c.channel, t.c.outcome,
            func.sum(t.c.messages).cast(BigInteger).label("messages"),
            func.sum(t.c.latency_sum_ms).cast(BigInteger).label("total"),
            func.max(t.c.latency_max_ms).label("longest"),
        )
        .where(t.c.minute >= bindparam("since_ms", type_=BigInteger))
        .group_by(_START, t.c.channel, t.c.outcome)
        .order_by(_START, t.c.channel, t.c.outcome)
    )  # fmt: skip


@lru_cache(maxsize=64)
def _forget(sql: Sql) -> Delete:
    t = sql.tables.tallies
    return delete(t).where(t.c.minute < sql.now - literal(KEPT_MS))
