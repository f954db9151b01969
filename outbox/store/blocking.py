"""The blocked mark: rows that wait behind another of their ordering key stay out of the due index.

The mark is a hint that must never be lost. Only a claim sets it, while it holds the row that is waited for; every write by
which a row makes room in its key clears it in a later statement of its own transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, FromClause, Row, Select, Text, Update, and_, bindparam, func, select, update

from outbox.lifecycle import ACTIVE, DUE, TERMINAL, Event, Status, sources
from outbox.store.conditions import locked_if, not_waiting_untried
from outbox.store.leaping import leap
from outbox.store.schema import literal, status_in
from outbox.store.sql import Sql, Transaction

LAST_SEQ = 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Room in an ordering key: rows before ``before`` need not wait any more for whoever left it."""

    channel: str
    key: str
    before: int


def gaps_left_by(rows: Iterable[Row[Any]]) -> list[Gap]:
    """The room made by rows that were just written and stand as ``rows`` tells.

    A row that is active still holds back later ones as before, but no longer an earlier one that became due while it was
    being sent.
    """
    return [
        Gap(row.channel, row.ordering_key, LAST_SEQ if row.status in TERMINAL else row.seq)
        for row in rows
        if row.ordering_key is not None
    ]


def unblock(tx: Transaction, gaps: Sequence[Gap]) -> bool:
    """Clear the blocked mark of each gap's rows up to and including the first that is due; whether there was any.

    Must be a statement of its own, after the write that made room: on PostgreSQL it then sees the marks that a claim
    committed while that write waited for the claim's lock.
    """
    if not gaps:
        return False
    return bool(tx.execute_on(_unblock(tx.sql), map(asdict, sorted(set(gaps)))).all())


def mark_blocked(tx: Transaction, waiting: Mapping[int, int], locked: set[int]) -> int:
    """Mark rows that wait, each only while the row it waits for is locked and still holds it back.

    Otherwise that row could leave between our look and our mark, and nobody would ever clear the mark.
    """
    held = {(seq, blocker) for seq, blocker in waiting.items() if blocker in locked}
    others = waiting.items() - held
    if others and tx.sql.dialect.locks_rows:
        records = [{"seq": blocker} for blocker in sorted({blocker for _, blocker in others})]
        status = {row.seq: row.status for row in tx.execute_on(_lock_active(tx.sql), records)}
        held |= {(seq, blocker) for seq, blocker in others if _holds_back(blocker, seq, status.get(blocker))}
    elif others:
        held |= others
    marked = [{"seq": seq} for seq, _ in sorted(held)]
    return tx.execute_on(_block(tx.sql), marked).rowcount if marked else 0


def mend(tx: Transaction, after: tuple[str, str], limit: int) -> tuple[int, tuple[str, str] | None]:
    """Clear blocked marks that nobody else will: heads of their key that are marked all the same.

    Looks at up to ``limit`` keys after ``after``; returns how many marks it cleared and where to go on, ``None`` at the end.
    """
    keys = tx.execute(_blocked_keys(tx.sql), channel=after[0], key=after[1], limit=limit).all()
    if not keys:
        return 0, None
    records = [{"channel": row.channel, "key": row.ordering_key} for row in keys]
    cleared = len(tx.execute_on(_mend(tx.sql), records).all())
    last = keys[-1]
    return cleared, (last.channel, last.ordering_key) if len(keys) == limit else None


def _holds_back(blocker: int, seq: int, status: str | None) -> bool:
    """Whether ``blocker``, locked by us in ``status`` (``None``: not active, or not locked), holds back ``seq``."""
    return status == Status.SENDING or (status is not None and blocker < seq)


def _is_blocked(row: FromClause) -> ColumnElement[bool]:
    """The rows of the blocked index."""
    return and_(status_in(row, DUE), row.c.blocked == literal(1))


@lru_cache(maxsize=64)
def _lock_active(sql: Sql) -> Select[Any]:
    return locked_if(sql, status_in(sql.tables.messages, ACTIVE))


@lru_cache(maxsize=64)
def _block(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"seq": BigInteger()})
    return update(m).where(sql.dialect.named(m.c.seq, r.c.seq), status_in(m, sources(Event.CLAIM))).values(blocked=literal(1))


@lru_cache(maxsize=64)
def _unblock(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"channel": Text(), "key": Text(), "before": BigInteger()})
    due = m.alias("due")
    first_due = (
        select(due.c.seq)
        .where(
            due.c.channel == r.c.channel,
            due.c.ordering_key == r.c.key,
            due.c.ordering_key.is_not(None),
            status_in(due, ACTIVE),
            status_in(due, sources(Event.CLAIM)),
            due.c.next_attempt_at <= sql.now,
        )
        .order_by(due.c.seq)
        .limit(1)
        .correlate(r)
        .scalar_subquery()
    )
    behind = m.alias("behind")
    freed = select(behind.c.seq).where(
        behind.c.channel == r.c.channel,
        behind.c.ordering_key == r.c.key,
        _is_blocked(behind),
        behind.c.seq <= func.coalesce(first_due, literal(LAST_SEQ)),  # the nearer end first: SQLite searches by that one
        behind.c.seq < r.c.before,
    )
    freed_by_any = sql.dialect.among(m.c.seq, sql.dialect.for_each(r, freed))
    return update(m).where(freed_by_any, _is_blocked(m)).values(blocked=literal(0)).returning(m.c.seq)


@lru_cache(maxsize=64)
def _blocked_keys(sql: Sql) -> Select[Any]:
    """Each key with a blocked row once, found by leaping from one to the next."""
    prefix = ("channel", "ordering_key")
    after = (bindparam("channel", type_=Text), bindparam("key", type_=Text))
    keys = leap(sql.tables.messages, prefix, prefix, _is_blocked, after)
    return select(keys.c.channel, keys.c.ordering_key).limit(bindparam("limit"))


@lru_cache(maxsize=64)
def _mend(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"channel": Text(), "key": Text()})
    head = m.alias("head")
    first = (
        select(head.c.seq)
        .where(
            head.c.channel == r.c.channel,
            head.c.ordering_key == r.c.key,
            head.c.ordering_key.is_not(None),
            status_in(head, ACTIVE),
            not_waiting_untried(sql, head.c),
        )
        .order_by(head.c.seq)
        .limit(1)
        .correlate(r)
        .scalar_subquery()
    )
    heads = (
        select(m.c.seq)
        .where(m.c.seq.in_(select(first).select_from(r)), _is_blocked(m))
        .order_by(m.c.seq)
        .with_for_update(skip_locked=True)
        .cte("heads")
    )
    return update(m).where(m.c.seq.in_(select(heads.c.seq)), _is_blocked(m)).values(blocked=literal(0)).returning(m.c.seq)
