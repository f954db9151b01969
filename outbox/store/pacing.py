"""What a claim reads and writes about destinations: their buckets, how much is in flight to them, and breakers' permits."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Delete, Select, Text, Update, and_, bindparam, delete, or_, select, update

from outbox.policy import destination
from outbox.policy.destination import Admission, Limits
from outbox.store.conditions import in_flight_by
from outbox.store.records import GateKind
from outbox.store.schema import literal
from outbox.store.sql import Sql, Transaction

WHOLE_CHANNEL = ""
_FORGET_AFTER_MS = 3_600_000


def bucket(tx: Transaction, channel: str, targets: Iterable[str]) -> dict[str, float]:
    """The theoretical arrival time of each target's bucket, locked to the end of the transaction."""
    records = [{"channel": channel, "target": target} for target in sorted(set(targets))]
    tx.execute_on(_make_buckets(tx.sql), records)
    return {row.target: row.free_at for row in tx.execute_on(_read_buckets(tx.sql), records)}


def fill(tx: Transaction, channel: str, free_at: Mapping[str, float]) -> None:
    """Write the buckets back."""
    records = [{"channel": channel, "target": target, "free_at": round(at)} for target, at in sorted(free_at.items())]
    tx.execute_on(_write_buckets(tx.sql), records)


def admit(tx: Transaction, channel: str, rows: Sequence[Any], limits: Limits) -> Admission:
    """Sort rows by what their targets can take, and spend what the admitted ones take."""
    if not limits.by_target or not rows:
        return Admission()
    free_at = bucket(tx, channel, (row.target for row in rows))
    in_flight = {row.target: row.rows for row in tx.execute(_in_flight_by_target(tx.sql), channel=channel)}
    admission = destination.admit(rows, limits, now=tx.moment(), free_at=free_at, in_flight=in_flight)
    fill(tx, channel, admission.free_at)
    return admission


def held_closed(tx: Transaction, channel: str, targets: Iterable[str]) -> dict[str, int | None]:
    """The targets that are closed, each with the moment at which it opens, if one is set: until this transaction ends at least.

    One at which somebody else is at work, perhaps to open it, is left out.
    """
    records = [{"channel": channel, "target": target} for target in sorted(targets)]
    until: dict[str, int | None] = {}
    for row in tx.execute_on(_hold_closed(tx.sql), records):
        known = until.get(row.target, 0)
        until[row.target] = None if known is None or row.closed_until is None else max(known, row.closed_until)
    return until


def win_permits(tx: Transaction, channel: str, targets: Iterable[str], permit_ms: int) -> dict[str, int]:
    """The targets, of those half open, that this transaction may probe, each with the moment at which the permit expires."""
    records = [{"channel": channel, "target": target} for target in sorted(set(targets))]
    rows = tx.execute_on(_win_permits(tx.sql), records, permit_ms=permit_ms) if records else ()
    return {row.target: row.closed_until for row in rows}


def forget_buckets(tx: Transaction) -> int:
    """Delete buckets that have long been full again."""
    return tx.execute(_forget(tx.sql)).rowcount


def _bucket_rows(sql: Sql, *, value: bool = False) -> Any:
    columns: dict[str, Any] = {"channel": Text(), "target": Text()}
    return sql.dialect.records("r", {**columns, "free_at": BigInteger()} if value else columns)


@lru_cache(maxsize=64)
def _make_buckets(sql: Sql) -> Any:
    r = _bucket_rows(sql)
    missing = select(r.c.channel, r.c.target, literal(0)).where(literal(1) == literal(1))
    return (
        sql.dialect.insert(sql.tables.buckets).from_select(["channel", "target", "free_at"], missing).on_conflict_do_nothing()
    )


@lru_cache(maxsize=64)
def _read_buckets(sql: Sql) -> Select[Any]:
    b, r = sql.tables.buckets, _bucket_rows(sql)
    same = and_(b.c.channel == r.c.channel, b.c.target == r.c.target)
    return select(b.c.target, b.c.free_at).join_from(r, b, same).order_by(b.c.target).with_for_update(of=b)


@lru_cache(maxsize=64)
def _write_buckets(sql: Sql) -> Update:
    b, r = sql.tables.buckets, _bucket_rows(sql, value=True)
    return update(b).where(b.c.channel == r.c.channel, b.c.target == r.c.target).values(free_at=r.c.free_at)


@lru_cache(maxsize=64)
def _forget(sql: Sql) -> Delete:
    return delete(sql.tables.buckets).where(sql.tables.buckets.c.free_at < sql.now - _FORGET_AFTER_MS)


@lru_cache(maxsize=64)
def _in_flight_by_target(sql: Sql) -> Select[Any]:
    return in_flight_by(sql, "target")


@lru_cache(maxsize=64)
def _hold_closed(sql: Sql) -> Select[Any]:
    g, r = sql.tables.gates, _bucket_rows(sql)
    closed = or_(g.c.closed_until.is_(None), g.c.closed_until > sql.now)
    same = and_(g.c.channel == r.c.channel, g.c.target == r.c.target)
    return (
        select(g.c.target, g.c.closed_until)
        .join_from(r, g, same)
        .where(closed)
        .with_for_update(of=g, read=True, skip_locked=True)
    )


@lru_cache(maxsize=64)
def _win_permits(sql: Sql) -> Any:
    g, r = sql.tables.gates, _bucket_rows(sql)
    half_open = and_(
        g.c.channel == r.c.channel,
        g.c.target == r.c.target,
        g.c.kind == literal(GateKind.BREAKER),
        g.c.closed_until <= sql.now,
    )
    until = sql.now + bindparam("permit_ms", type_=BigInteger)
    return update(g).where(half_open).values(closed_until=until).returning(g.c.target, g.c.closed_until)
