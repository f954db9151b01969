"""``census``: how many messages of each channel stand where, at a price that does not grow with the table.

Each count reads an index up to a limit and stops there: who looks after an outbox wants to know whether ten messages failed or
ten thousand, not whether it is 412,903 or 412,904.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, FromClause, ScalarSelect, Select, and_, bindparam, func, select

from outbox.lifecycle import DUE, Status
from outbox.store.leaping import leap
from outbox.store.records import Count
from outbox.store.schema import claimable, literal, status_in
from outbox.store.sql import Sql, Transaction


@dataclass(frozen=True)
class _Arm:
    """One partial index of living rows: the statuses in it, its columns, and which rows it holds."""

    statuses: Sequence[Status]
    order: Sequence[str]
    holds: Callable[[FromClause], ColumnElement[bool]]


def _only(status: Status, *order: str) -> _Arm:
    return _Arm((status,), order, lambda row: row.c.status == literal(status))


def _blocked(row: FromClause) -> ColumnElement[bool]:
    return and_(status_in(row, DUE), row.c.blocked == literal(1))


def _unstamped(row: FromClause) -> ColumnElement[bool]:
    return and_(row.c.status == literal(Status.QUEUED), row.c.stamped == literal(0))


DUE_ARMS = (
    _Arm(tuple(sorted(DUE)), ("channel", "priority", "next_attempt_at"), claimable),
    _Arm(tuple(sorted(DUE)), ("channel", "ordering_key"), _blocked),
    _Arm((Status.QUEUED,), ("channel",), _unstamped),
)
"""What is in a due status is in one of these; none is blocked before it is stamped."""
_ARMS = (
    *DUE_ARMS,
    _only(Status.DISPATCHED, "channel", "lease_until"),
    _only(Status.SENDING, "channel", "lease_until"),
    _only(Status.PARKED, "channel"),
)


def census(tx: Transaction, most: int) -> list[Count]:
    """Counts by channel and status; where there are more than ``most`` rows the count is ``most``, and says so."""
    rows: dict[tuple[str, Status], int] = {}
    cut: set[tuple[str, Status]] = set()

    def add(channel: str, counts: dict[Status, int]) -> None:
        for status, count in counts.items():
            rows[channel, status] = rows.get((channel, status), 0) + count
            if sum(counts.values()) > most:
                cut.add((channel, status))

    for arm in _ARMS:
        for row in tx.execute(_living(tx.sql, arm), enough=most + 1):
            add(row.channel, {status: row._mapping[str(status)] for status in arm.statuses})
    for row in tx.execute(_completed(tx.sql), enough=most + 1):
        add(row.channel, {Status(row.status): row.rows})
    return [
        Count(channel, status, min(count, most), at_least=count > most or (channel, status) in cut)
        for (channel, status), count in sorted(rows.items())
        if count
    ]


def _bounded(rows: Select[Any], found: FromClause, status: Status | None = None) -> ScalarSelect[int]:
    """How many of ``rows``, of which no more than enough are looked at, and of those how many in ``status``."""
    some = rows.limit(bindparam("enough")).correlate(found).subquery()
    count = select(func.count()).select_from(some)
    return (count if status is None else count.where(some.c.status == literal(status))).scalar_subquery()


@lru_cache(maxsize=64)
def _living(sql: Sql, arm: _Arm) -> Select[Any]:
    m = sql.tables.messages
    found = leap(m, ("channel",), arm.order, arm.holds, (literal(""),))
    rows = m.alias("counted")
    of_channel = select(rows.c.status).where(arm.holds(rows), rows.c.channel == found.c.channel)
    return select(found.c.channel, *(_bounded(of_channel, found, status).label(status) for status in arm.statuses))


@lru_cache(maxsize=64)
def _completed(sql: Sql) -> Select[Any]:
    def over(row: FromClause) -> ColumnElement[bool]:
        return row.c.completed_at.is_not(None)

    m = sql.tables.messages
    prefix = ("channel", "status")
    found = leap(m, prefix, (*prefix, "completed_at"), over, (literal(""), literal("")))
    rows = m.alias("counted")
    same = select(rows.c.status).where(rows.c.channel == found.c.channel, rows.c.status == found.c.status, over(rows))
    in_the_indexs_order = same.order_by(rows.c.completed_at)  # unordered, few rows would be looked for in the whole table
    return select(found.c.channel, found.c.status, _bounded(in_the_indexs_order, found).label("rows"))
