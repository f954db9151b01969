"""What several verbs ask of a row."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, or_, select

from outbox.lifecycle import Status
from outbox.store.schema import literal
from outbox.store.sql import Sql


def not_waiting_untried(sql: Sql, row: Any) -> ColumnElement[bool]:
    """A row that was never tried and is scheduled for the future does not hold back later rows of its key."""
    return or_(row.lease > literal(0), row.status != literal(Status.QUEUED), row.next_attempt_at <= sql.now)


def unexpired(sql: Sql, row: Any) -> ColumnElement[bool]:
    """Exactly at its age a row is kept; one millisecond older it is expired."""
    return or_(row.expires_at.is_(None), row.expires_at >= sql.now)


def locked_if(sql: Sql, still: ColumnElement[bool]) -> Select[Any]:
    """Of the rows whose ``seq`` travels in the records: those for which ``still`` holds, locked, none of them waited for."""
    m = sql.tables.messages
    r = sql.dialect.records("r", {"seq": BigInteger()})
    return (
        select(m.c.seq, m.c.status)
        .join_from(r, m, m.c.seq == r.c.seq)
        .where(still)
        .order_by(m.c.seq)
        .with_for_update(of=m, skip_locked=True)
    )
