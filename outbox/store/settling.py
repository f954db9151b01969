"""``settle``: the one fenced write that records what an attempt came to.

Who may write the row now: whoever holds its lease. A success needs only the unchanged lease, because that proves that nobody
took or replayed the row since, whatever rescue, expiry or cancel made of its status meanwhile. Every other outcome needs the
row to be ``sending`` still: a late failure must not undo anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    Table,
    Text,
    Update,
    case,
    func,
    select,
    update,
)

from outbox.lifecycle import TERMINAL, Status
from outbox.store.blocking import gaps_left_by, unblock
from outbox.store.records import Settled, Settlement
from outbox.store.schema import literal
from outbox.store.sql import Sql, Transaction

_LEFT = TERMINAL | {Status.PARKED}
"""Statuses that carry a reason."""


def settle(tx: Transaction, settlements: Sequence[Settlement], *, log_successes: bool = False) -> Settled:
    """Record each outcome whose lease is still held, log it, and let the rows behind it move up."""
    if not settlements:
        return Settled()
    in_one_order = sorted(settlements, key=attrgetter("id"))  # two transactions over the same rows must not lock up
    successes = [s for s in in_one_order if s.verdict.status is Status.DELIVERED]
    others = [s for s in in_one_order if s.verdict.status is not Status.DELIVERED]
    written: list[Row[Any]] = []
    if successes:
        written += tx.execute_on(_deliver(tx.sql), map(_success, successes)).all()
    if others:
        written += tx.execute_on(_record(tx.sql), map(_other, others)).all()
    standing = {(row.id, row.status, row.lease) for row in written}
    recorded = [s for s in settlements if _as_it_stands(s) in standing]
    late = {row.id for row in written if row.status == Status.DELIVERED and row.terminal_reason is not None}
    _log(tx, [s for s in recorded if log_successes or _is_failure(s) or s.id in late])
    unblocked = unblock(tx, gaps_left_by(written))
    ids = frozenset(s.id for s in recorded)
    return Settled(ids, frozenset(s.id for s in settlements) - ids, unblocked)


def work_and_settle(tx: Transaction, settlement: Settlement, work: Callable[[Connection], str | None], log: bool) -> None:
    """Do the work, then settle with the receipt text that it returns. Raises :class:`LeaseGone` so that both are undone."""
    receipt = work(tx.connection)
    if not settle(tx, [replace(settlement, receipt=receipt)], log_successes=log).recorded:
        raise LeaseGone


class LeaseGone(Exception):
    """Somebody else holds the row by now."""


def already_settled(tx: Transaction, settlements: Sequence[Settlement]) -> frozenset[str]:
    """After a commit of which nobody knows whether it took effect: the ids that stand as the settlement wanted them."""
    rows = tx.execute_on(_standing(tx.sql), [{"id": s.id} for s in settlements])
    standing = {(row.id, row.status, row.lease) for row in rows}
    return frozenset(s.id for s in settlements if _as_it_stands(s) in standing)


def _as_it_stands(settlement: Settlement) -> tuple[str, str, int]:
    """The id, status and lease of the row once the outcome is recorded."""
    lease = settlement.lease if settlement.verdict.charged else settlement.lease + 1
    return settlement.id, settlement.verdict.status, lease


def _is_failure(settlement: Settlement) -> bool:
    return settlement.verdict.charged and settlement.verdict.error is not None


def _success(settlement: Settlement) -> dict[str, Any]:
    return {"id": settlement.id, "lease": settlement.lease, "receipt": settlement.receipt}


def _other(settlement: Settlement) -> dict[str, Any]:
    verdict = settlement.verdict
    return {
        "id": settlement.id,
        "lease": settlement.lease,
        "status": verdict.status,
        "delay_ms": verdict.delay_ms,
        "error": verdict.error,
        "error_class": verdict.error_class,
        "reason": verdict.reason,
        "refund": int(not verdict.charged),
        "outcome_unknown": None if verdict.outcome_unknown is None else int(verdict.outcome_unknown),
    }


def _log(tx: Transaction, settlements: Sequence[Settlement]) -> None:
    if not settlements:
        return
    records = {
        (s.id, s.lease): {
            "id": s.id,
            "lease": s.lease,
            "outcome": s.outcome,
            "error": s.verdict.error,
            "error_class": s.verdict.error_class,
        }
        for s in settlements
    }
    tx.execute_on(_log_attempts(tx.sql), records.values())


@lru_cache(maxsize=64)
def _deliver(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"id": Text(), "lease": BigInteger(), "receipt": Text()})
    overtaken = case(
        (m.c.status == literal(Status.CANCELLED), "sent before the cancel"),
        (m.c.status == literal(Status.EXPIRED), "sent before it expired"),
        (m.c.status == literal(Status.SENDING), None),
        else_="settled late",
    )
    return (
        update(m)
        .where(sql.dialect.named(m.c.id, r.c.id), m.c.lease == r.c.lease, m.c.status != literal(Status.DELIVERED))
        .values(
            status=literal(Status.DELIVERED),
            delivered_at=sql.began,
            completed_at=sql.now,
            receipt=r.c.receipt,
            terminal_reason=overtaken,
            lease_until=None,
            blocked=literal(0),
        )
        .returning(*_written(m))
    )


@lru_cache(maxsize=64)
def _record(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records(
        "r",
        {
            "id": Text(), "lease": BigInteger(), "status": Text(), "delay_ms": BigInteger(), "error": Text(),
            "error_class": Text(), "reason": Text(), "refund": Integer(), "outcome_unknown": Integer(),
        },
    )  # fmt: skip
    terminal = r.c.status.in_([literal(status) for status in sorted(TERMINAL)])
    left = r.c.status.in_([literal(status) for status in sorted(_LEFT)])
    return (
        update(m)
        .where(sql.dialect.named(m.c.id, r.c.id), m.c.lease == r.c.lease, m.c.status == literal(Status.SENDING))
        .values(
            status=r.c.status,
            lease=m.c.lease + r.c.refund,
            attempt_count=m.c.attempt_count - r.c.refund,
            next_attempt_at=sql.now + r.c.delay_ms,
            last_error=func.coalesce(r.c.error, m.c.last_error),
            error_class=func.coalesce(r.c.error_class, m.c.error_class),
            terminal_reason=case((left, r.c.reason), else_=m.c.terminal_reason),
            completed_at=case((terminal, sql.now)),
            outcome_unknown=func.coalesce(r.c.outcome_unknown, m.c.outcome_unknown),
            lease_until=None,
        )
        .returning(*_written(m))
    )


def _written(messages: Table) -> list[ColumnElement[Any]]:
    c = messages.c
    return [c.id, c.seq, c.channel, c.ordering_key, c.status, c.lease, c.terminal_reason]


@lru_cache(maxsize=64)
def _log_attempts(sql: Sql) -> Any:
    """One line for each (id, lease); a late success corrects the line that a rescue wrote. SQLite needs the ``where``."""
    m, log = sql.tables.messages, sql.tables.attempts
    r = sql.dialect.records(
        "r", {"id": Text(), "lease": BigInteger(), "outcome": Text(), "error": Text(), "error_class": Text()}
    )
    rows = select(
        r.c.id, r.c.lease, m.c.attempt_count, r.c.outcome, r.c.error, r.c.error_class,
        func.coalesce(m.c.last_attempt_at, sql.now), sql.now, m.c.lease_owner,
    ).join_from(r, m, sql.dialect.named(m.c.id, r.c.id))  # fmt: skip
    columns = ["message_id", "lease", "number", "outcome", "error", "error_class", "started_at", "finished_at", "owner"]
    insert = sql.dialect.insert(log).from_select(columns, rows.where(literal(1) == literal(1)))
    return insert.on_conflict_do_update(
        index_elements=[log.c.message_id, log.c.lease],
        set_={"outcome": insert.excluded.outcome, "finished_at": insert.excluded.finished_at},
    )


@lru_cache(maxsize=64)
def _standing(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"id": Text()})
    return select(m.c.id, m.c.status, m.c.lease).join_from(r, m, sql.dialect.named(m.c.id, r.c.id))
