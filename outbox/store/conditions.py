"""What several verbs ask of a row."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, and_, bindparam, func, or_, select, union_all

from outbox.lifecycle import Status
from outbox.store.schema import literal
from outbox.store.sql import Sql


def not_waiting_untried(sql: Sql, row: Any) -> ColumnElement[bool]:
    """A row that was never tried and is scheduled for the future does not hold back later rows of its key."""
    return or_(row.lease > literal(0), row.status != literal(Status.QUEUED), row.next_attempt_at <= sql.now)


def unexpired(sql: Sql, row: Any) -> ColumnElement[bool]:
    """Exactly at its age a row is kept; one millisecond older it is expired."""
    return or_(row.expires_at.is_(None), row.expires_at >= sql.now)


def in_flight(sql: Sql, channel: ColumnElement[str]) -> ColumnElement[int]:
    """How many of a channel's rows are dispatched or being sent: two ranges of an index."""

    def count(status: Status) -> ColumnElement[int]:
        m = sql.tables.messages.alias("underway")
        here = and_(m.c.channel == channel, m.c.status == literal(status))
        return select(func.count()).select_from(m).where(here).scalar_subquery()

    return count(Status.DISPATCHED) + count(Status.SENDING)


def in_flight_by(sql: Sql, column: str) -> Select[Any]:
    """The same, of ``:channel``, for each value of a column: it and how many ``rows``."""
    m = sql.tables.messages
    arms = (
        select(m.c[column]).where(m.c.channel == bindparam("channel"), m.c.status == literal(status))
        for status in (Status.DISPATCHED, Status.SENDING)
    )
    flying = union_all(*arms).subquery("flying")
    return select(flying.c[column], func.count().label("rows")).group_by(flying.c[column])


def locked_if(sql: Sql, still: ColumnElement[bool]) -> Select[Any]:
    """Of the rows whose ``seq`` travels in the records: those for which ``still`` holds, locked, none of them waited for.

    For databases that lock rows. The seqs are an array and no join: where PostgreSQL believes that hardly any row is what
    ``still`` says, it would look through all the records once for each row that is.
    """
    m = sql.tables.messages
    r = sql.dialect.records("r", {"seq": BigInteger()})
    return (
        select(m.c.seq, m.c.status)
        .where(sql.dialect.among(m.c.seq, select(r.c.seq)), still)
        .order_by(m.c.seq)
        .with_for_update(of=m, skip_locked=True)
    )


def locked_batch(sql: Sql, meant: ColumnElement[bool], order: ColumnElement[Any]) -> ColumnElement[bool]:
    """``meant``, restricted to a locked batch of ``:limit`` rows, none of them waited for."""
    m = sql.tables.messages
    rows = select(m.c.seq).where(meant).order_by(order, m.c.seq).limit(bindparam("limit")).with_for_update(skip_locked=True)
    batch = rows.cte("batch")
    return and_(m.c.seq.in_(select(batch.c.seq)), meant)
