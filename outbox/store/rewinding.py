"""``unfuture``: moments that a clock has left in the future, where nothing would look at them for as long as it had jumped.

Of messages that are not due yet there may be any number, rightly most often: they are looked through by portions, so that
nobody waits for it. What is due, whatever its number, is not read at all.
"""

from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Update, and_, bindparam, case, or_, select, tuple_, update

from outbox.lifecycle import Status
from outbox.store.claiming import LONGEST_HORIZON_MS
from outbox.store.leaping import lanes
from outbox.store.records import GateKind, Place, Places
from outbox.store.schema import claimable, literal
from outbox.store.sql import Sql, Transaction

_START = Place(seq=0)


def unfuture(tx: Transaction, longest_retry_ms: int, longest_lease_ms: int, after: Places, limit: int) -> tuple[int, Places]:
    """Bring back moments further ahead than this engine writes them; returns how many, and from where to go on.

    What an application scheduled itself stays, unless it was enqueued in the future: then it moves with its enqueue. Gates
    that an operator closed stay too; those that the engine closed, and buckets, are never ahead by more than
    ``longest_lease_ms``. Of each channel and priority up to ``limit`` waiting messages are looked at.
    """
    changed, places = unfuture_waiting(tx, longest_retry_ms, after, limit)
    changed += sum(
        (
            tx.execute(_leases(tx.sql, Status.DISPATCHED), ahead_ms=LONGEST_HORIZON_MS).rowcount,
            tx.execute(_leases(tx.sql, Status.SENDING), ahead_ms=longest_lease_ms).rowcount,
            tx.execute(_gates(tx.sql), ahead_ms=longest_lease_ms).rowcount,
            tx.execute(_buckets(tx.sql), ahead_ms=longest_lease_ms).rowcount,
            tx.execute(_tally_marks(tx.sql)).rowcount,
        )
    )
    return changed, places


def unfuture_waiting(tx: Transaction, longest_retry_ms: int, after: Places, limit: int) -> tuple[int, Places]:
    """The same for messages that are not due yet alone."""
    changed = 0
    places: dict[tuple[str, int], Place] = {}
    for row in tx.execute(_lanes(tx.sql)).all():
        lane = (row.channel, row.priority)
        place = after.get(lane, _START)
        waiting = {"of_channel": row.channel, "of_priority": row.priority, "at": place.at, "seq": place.seq, "limit": limit}
        rows = tx.execute(_waiting(tx.sql), **waiting, ahead_ms=longest_retry_ms).all()
        ahead = [{"seq": row.seq} for row in rows if row.is_ahead]
        if ahead:
            changed += tx.execute_on(_enqueues(tx.sql), ahead).rowcount
            changed += tx.execute_on(_retries(tx.sql), ahead, ahead_ms=longest_retry_ms).rowcount
        if len(rows) == limit:
            places[lane] = Place(rows[-1].seq, rows[-1].next_attempt_at)
    return changed, places


def _ahead(sql: Sql) -> ColumnElement[int]:
    return sql.now + bindparam("ahead_ms", type_=BigInteger)


def _enqueued_ahead(sql: Sql) -> ColumnElement[bool]:
    m = sql.tables.messages
    return and_(claimable(m), m.c.lease == literal(0), m.c.queued_at > sql.now)


def _retried_ahead(sql: Sql) -> ColumnElement[bool]:
    m = sql.tables.messages
    return and_(claimable(m), m.c.lease > literal(0), m.c.next_attempt_at > _ahead(sql))


@lru_cache(maxsize=64)
def _lanes(sql: Sql) -> Any:
    """Channels and priorities of which a message is not due yet: two index entries read for each."""
    m = sql.tables.messages
    lane = lanes(m)
    waiting = (
        select(m.c.seq)
        .where(
            claimable(m),
            m.c.channel == lane.c.channel,
            m.c.priority == lane.c.priority,
            m.c.next_attempt_at > sql.now,
        )
        .order_by(m.c.next_attempt_at)
        .limit(literal(1))
        .correlate(lane)
        .scalar_subquery()
    )
    return select(lane.c.channel, lane.c.priority).where(waiting.is_not(None))


@lru_cache(maxsize=64)
def _waiting(sql: Sql) -> Select[Any]:
    """Messages of one channel and priority that are not due yet, in order, and whether they are ahead of their time."""
    m = sql.tables.messages
    at = bindparam("at", type_=BigInteger)
    place = tuple_(case((at > sql.now, at), else_=sql.now), bindparam("seq", type_=BigInteger))
    return (
        select(m.c.seq, m.c.next_attempt_at, or_(_enqueued_ahead(sql), _retried_ahead(sql)).label("is_ahead"))
        .where(
            claimable(m),
            m.c.channel == bindparam("of_channel"),
            m.c.priority == bindparam("of_priority"),
            tuple_(m.c.next_attempt_at, m.c.seq) > place,
        )
        .order_by(m.c.next_attempt_at, m.c.seq)
        .limit(bindparam("limit"))
    )


@lru_cache(maxsize=64)
def _enqueues(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"seq": BigInteger()})
    jumped = m.c.queued_at - sql.now
    return (
        update(m)
        .where(sql.dialect.among(m.c.seq, select(r.c.seq)), _enqueued_ahead(sql))
        .values(queued_at=sql.now, next_attempt_at=m.c.next_attempt_at - jumped, expires_at=m.c.expires_at - jumped)
    )


@lru_cache(maxsize=64)
def _retries(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"seq": BigInteger()})
    return update(m).where(sql.dialect.among(m.c.seq, select(r.c.seq)), _retried_ahead(sql)).values(next_attempt_at=_ahead(sql))


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
