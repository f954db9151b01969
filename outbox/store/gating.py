"""``close``, ``reopen`` and ``gates``: channels and destinations that take nothing for a while."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    or_,
    select,
    tuple_,
    update,
)

from outbox.policy.destination import Breaker
from outbox.store.noting import Note, note
from outbox.store.records import Gate, GateKind, GateState
from outbox.store.schema import claimable, literal
from outbox.store.sql import Sql, Transaction, clamp

SHORTEST_CLOSURE_MS = 5_000
LONGEST_CLOSURE_MS = 300_000
_SAME_EPISODE_MS = 60_000
PAUSED, RESUMED = "pause", "resume"
"""What operators do to gates, as it stands on record."""


def close(
    tx: Transaction,
    channel: str,
    target: str,
    kind: GateKind,
    *,
    for_ms: int | None,
    reason: str,
    actor: str | None = None,
) -> None:
    """Close a channel (``target`` empty) or one destination, for ``for_ms`` or, with ``None``, until it is reopened.

    A pause is an operator's, and goes on record.
    """
    tx.execute(_close(tx.sql), channel=channel, target=target, kind=str(kind), for_ms=for_ms, reason=reason, actor=actor)
    if kind is GateKind.PAUSE:
        note(tx, PAUSED, actor, [_note(channel, target, kind, reason)])


def close_growing(tx: Transaction, channel: str, kind: GateKind, *, at_least_ms: int, reason: str) -> None:
    """Close a channel that is not ready: each closure in a row half as long as the channel has been closed by then."""
    tx.execute(_close_growing(tx.sql), channel=channel, target="", kind=str(kind), for_ms=at_least_ms, reason=reason)


def note_failures(
    tx: Transaction, channel: str, failures: Mapping[str, int], breaker: Breaker, *, reason: str
) -> frozenset[str]:
    """Count failures in a row by target; at the breaker's threshold it opens, for longer the longer it has failed."""
    records = [{"channel": channel, "target": target, "failures": count} for target, count in sorted(failures.items()) if count]
    rows = tx.execute_on(
        _count_failures(tx.sql),
        records,
        reason=reason,
        threshold=breaker.failures,
        open_ms=round(breaker.open_s * 1000),
        longest_ms=round(breaker.longest_open_s * 1000),
    )
    return frozenset(row.target for row in rows if row.closed_until > 0)


def has_failures(tx: Transaction, channel: str, targets: Collection[str]) -> bool:
    """Whether failures of any of these targets are on record."""
    records = [{"channel": channel, "target": target} for target in targets]
    return bool(tx.execute_on(_has_failures(tx.sql), records).scalar_one())


def note_successes(tx: Transaction, channel: str, targets: Collection[str]) -> frozenset[str]:
    """Close the breakers of these targets, and make what was postponed for them due."""
    records = [{"channel": channel, "target": target} for target in sorted(targets)]
    rows = tx.execute_on(_forget_failures(tx.sql), records).all()
    _hasten(tx, channel, [row.target for row in rows if row.closed_until > 0 and row.target])
    return frozenset(row.target for row in rows)


def reopen(
    tx: Transaction, channel: str, target: str | None, kind: GateKind | None = None, *, actor: str | None = None,
    reason: str | None = None,
) -> int:  # fmt: skip
    """Remove the gates of a channel: of one destination, of the channel itself (``""``), or all of them (``None``), on record.

    What was postponed for a destination becomes due at once.
    """
    wanted = {**({} if target is None else {"target": target}), **({} if kind is None else {"kind": str(kind)})}
    rows = tx.execute(_reopen(tx.sql, target is not None, kind is not None), channel=channel, **wanted).all()
    _hasten(tx, channel, [row.target for row in rows if row.target])
    if rows:
        note(tx, RESUMED, actor, (_note(channel, row.target, row.kind, reason) for row in rows))
    return len(rows)


def _note(channel: str, target: str, kind: str, reason: str | None) -> Note:
    """A line of the record has no column for a target: it stands in front of the reason."""
    told = ": ".join(part for part in (target, reason) if part)
    return Note(channel, kind, None, told or None)


def _hasten(tx: Transaction, channel: str, targets: Sequence[str]) -> None:
    if targets:
        tx.execute_on(_make_due(tx.sql), [{"channel": channel, "target": target} for target in sorted(targets)])


def gates(tx: Transaction, *, closed_only: bool = True) -> list[Gate]:
    """The gates that are closed now; with ``closed_only=False`` also those whose time has passed."""
    rows = tx.execute(_gates(tx.sql, closed_only))
    return [
        Gate(
            row.channel,
            row.target,
            GateKind(row.kind),
            row.closed_since,
            row.closed_until,
            row.reason,
            row.actor,
            row.failures,
            GateState(row.state),
        )
        for row in rows
    ]


def _insert(sql: Sql) -> Any:
    return sql.dialect.insert(sql.tables.gates).values(
        channel=bindparam("channel"),
        target=bindparam("target"),
        kind=bindparam("kind"),
        closed_since=sql.began,
        closed_until=sql.began + bindparam("for_ms", type_=BigInteger),
        reason=bindparam("reason"),
        actor=bindparam("actor", None),
    )


@lru_cache(maxsize=64)
def _close(sql: Sql) -> Any:
    g = sql.tables.gates
    insert = _insert(sql)
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=[g.c.channel, g.c.target, g.c.kind],
        set_={
            "closed_since": new.closed_since,
            "closed_until": new.closed_until,
            "reason": new.reason,
            "actor": new.actor,
        },
    )


@lru_cache(maxsize=64)
def _close_growing(sql: Sql) -> Any:
    g = sql.tables.gates
    insert = _insert(sql)
    new = insert.excluded
    continues = g.c.closed_until > sql.now - _SAME_EPISODE_MS
    longer = sql.now + clamp((sql.now - g.c.closed_since) // 2, SHORTEST_CLOSURE_MS, LONGEST_CLOSURE_MS)
    grown = case((continues & (longer > new.closed_until), longer), else_=new.closed_until)
    return insert.on_conflict_do_update(
        index_elements=[g.c.channel, g.c.target, g.c.kind],
        set_={
            "closed_since": case((continues, g.c.closed_since), else_=new.closed_since),
            "closed_until": case((g.c.closed_until > grown, g.c.closed_until), else_=grown),
            "reason": new.reason,
        },
    )


@lru_cache(maxsize=64)
def _reopen(sql: Sql, one_target: bool, one_kind: bool) -> Any:
    g = sql.tables.gates
    statement = delete(g).where(g.c.channel == bindparam("channel"))
    if one_target:
        statement = statement.where(g.c.target == bindparam("target"))
    if one_kind:
        statement = statement.where(g.c.kind == bindparam("kind"))
    return statement.returning(g.c.target, g.c.kind)


@lru_cache(maxsize=64)
def _count_failures(sql: Sql) -> Any:
    g = sql.tables.gates
    r = sql.dialect.records("r", {"channel": Text(), "target": Text(), "failures": Integer()})
    threshold = bindparam("threshold", type_=Integer)
    open_until = sql.began + bindparam("open_ms", type_=BigInteger)
    first = select(
        r.c.channel, r.c.target, literal(GateKind.BREAKER), sql.began,
        case((r.c.failures >= threshold, open_until), else_=0), bindparam("reason", type_=Text), r.c.failures,
    ).where(literal(1) == literal(1))  # fmt: skip
    columns = ["channel", "target", "kind", "closed_since", "closed_until", "reason", "failures"]
    insert = sql.dialect.insert(g).from_select(columns, first)
    failures = g.c.failures + insert.excluded.failures
    longer = sql.now + clamp(
        (sql.now - g.c.closed_since) // 2, bindparam("open_ms", type_=BigInteger), bindparam("longest_ms", type_=BigInteger)
    )
    return insert.on_conflict_do_update(
        index_elements=[g.c.channel, g.c.target, g.c.kind],
        set_={
            "failures": failures,
            "reason": insert.excluded.reason,
            "closed_until": case((failures >= threshold, longer), else_=g.c.closed_until),
        },
    ).returning(g.c.target, g.c.closed_until)


@lru_cache(maxsize=64)
def _forget_failures(sql: Sql) -> Any:
    g = sql.tables.gates
    return delete(g).where(_breakers_of_records(sql)).returning(g.c.target, g.c.closed_until)


@lru_cache(maxsize=64)
def _has_failures(sql: Sql) -> Select[Any]:
    return select(exists(select(sql.tables.gates.c.target).where(_breakers_of_records(sql))))


def _breakers_of_records(sql: Sql) -> ColumnElement[bool]:
    g = sql.tables.gates
    r = sql.dialect.records("r", {"channel": Text(), "target": Text()})
    return and_(g.c.kind == literal(GateKind.BREAKER), tuple_(g.c.channel, g.c.target).in_(select(r.c.channel, r.c.target)))


@lru_cache(maxsize=64)
def _make_due(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"channel": Text(), "target": Text()})
    return (
        update(m)
        .where(
            m.c.channel == r.c.channel,
            m.c.target == r.c.target,
            claimable(m),
            m.c.lease > literal(0),
            m.c.next_attempt_at > sql.now,
        )
        .values(next_attempt_at=sql.now)
    )


@lru_cache(maxsize=64)
def _gates(sql: Sql, closed_only: bool) -> Select[Any]:
    g = sql.tables.gates
    closed = or_(g.c.closed_until.is_(None), g.c.closed_until > sql.now)
    tripped = and_(g.c.kind == literal(GateKind.BREAKER), g.c.closed_until > literal(0))
    state = case((closed, literal(GateState.CLOSED)), (tripped, literal(GateState.HALF_OPEN)), else_=literal(GateState.OPEN))
    statement = select(g, state.label("state")).order_by(g.c.channel, g.c.target, g.c.kind)
    if closed_only:
        statement = statement.where(closed)
    return statement
