"""``unfuture``: moments that a clock has left in the future, where nothing would look at them for as long as it had jumped."""

from functools import lru_cache

from sqlalchemy import BigInteger, ColumnElement, Update, and_, bindparam, update

from outbox.lifecycle import Status
from outbox.store.claiming import LONGEST_HORIZON_MS
from outbox.store.records import GateKind
from outbox.store.schema import claimable, literal
from outbox.store.sql import Sql, Transaction


def unfuture(tx: Transaction, longest_retry_ms: int, longest_lease_ms: int) -> int:
    """Bring back moments further ahead than this engine writes them; returns how many.

    What an application scheduled itself stays, unless it was enqueued in the future: then it moves with its enqueue. Gates
    that an operator closed stay too; those that the engine closed, and buckets, are never ahead by more than
    ``longest_lease_ms``.
    """
    return sum(
        (
            tx.execute(_enqueues(tx.sql)).rowcount,
            tx.execute(_retries(tx.sql), ahead_ms=longest_retry_ms).rowcount,
            tx.execute(_leases(tx.sql, Status.DISPATCHED), ahead_ms=LONGEST_HORIZON_MS).rowcount,
            tx.execute(_leases(tx.sql, Status.SENDING), ahead_ms=longest_lease_ms).rowcount,
            tx.execute(_gates(tx.sql), ahead_ms=longest_lease_ms).rowcount,
            tx.execute(_buckets(tx.sql), ahead_ms=longest_lease_ms).rowcount,
            tx.execute(_tally_marks(tx.sql)).rowcount,
        )
    )


def _ahead(sql: Sql) -> ColumnElement[int]:
    return sql.now + bindparam("ahead_ms", type_=BigInteger)


@lru_cache(maxsize=64)
def _enqueues(sql: Sql) -> Update:
    m = sql.tables.messages
    jumped = m.c.queued_at - sql.now
    return (
        update(m)
        .where(claimable(m), m.c.lease == literal(0), m.c.queued_at > sql.now)
        .values(queued_at=sql.now, next_attempt_at=m.c.next_attempt_at - jumped, expires_at=m.c.expires_at - jumped)
    )


@lru_cache(maxsize=64)
def _retries(sql: Sql) -> Update:
    m = sql.tables.messages
    late = and_(claimable(m), m.c.lease > literal(0), m.c.next_attempt_at > _ahead(sql))
    return update(m).where(late).values(next_attempt_at=_ahead(sql))


@lru_cache(maxsize=64)
def _leases(sql: Sql, status: Status) -> Update:
    m = sql.tables.messages
    return update(m).where(m.c.status == literal(status), m.c.lease_until > _ahead(sql)).values(lease_until=_ahead(sql))


@lru_cache(maxsize=64)
def _gates(sql: Sql) -> Update:
    g = sql.tables.gates
    own = g.c.kind.in_([literal(GateKind.BREAKER), literal(GateKind.NOT_READY)])
    return update(g).where(own, g.c.closed_until > _ahead(sql)).values(closed_until=sql.now)


@lru_cache(maxsize=64)
def _buckets(sql: Sql) -> Update:
    b = sql.tables.buckets
    return update(b).where(b.c.free_at > _ahead(sql)).values(free_at=sql.now)


@lru_cache(maxsize=64)
def _tally_marks(sql: Sql) -> Update:
    marks = sql.tables.tally_marks
    return update(marks).where(marks.c.completed_at > sql.now).values(completed_at=sql.now)
