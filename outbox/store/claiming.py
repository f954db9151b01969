"""``claim`` and ``redispatch``: from due to dispatched; and ``recall``, back, where the one who would have published is dead.

Who may write a due row here: any relay, an operator, maintenance. On PostgreSQL each locks the rows it means with ``skip
locked`` and repeats its predicate; on SQLite ``BEGIN IMMEDIATE`` lets one transaction in at a time.
"""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Row, Select, Table, Update, and_, bindparam, false, func, select, update

from outbox.lifecycle import Event, Status, sources, target
from outbox.message import Claim
from outbox.policy.destination import Limits, Rate, spend, tokens
from outbox.policy.retry import DEATHS
from outbox.store import pacing
from outbox.store.conditions import in_flight, locked_batch, unexpired
from outbox.store.ordering import in_order
from outbox.store.records import Claimed, Lane
from outbox.store.schema import claimable, literal, status_in
from outbox.store.sql import Sql, Transaction, clamp
from outbox.store.taking import given_back

SHORTEST_HORIZON_MS = 60_000
LONGEST_HORIZON_MS = 600_000
CLOSED_UNTIL_RESUMED_MS = 60_000
_LOOKS = 4
"""How often a claim looks for more in the place of rows that it postponed: its transaction must stay short."""
GATE_MISSED_MS = 1_000
"""When to look again at a target whose gate is not as the relay has seen it, or whose permit was not to be had: another claim
has it, or somebody has opened the target meanwhile, and then nobody will make the row due sooner."""


def claim(tx: Transaction, lane: Lane, limit: int, limits: Limits, owner: str | None = None) -> Claimed:
    """Dispatch up to ``limit`` due rows of a lane, oldest first, within ``limits``; they are ``owner``'s until they are taken.

    A row whose target is closed or can take no more for now is postponed, and one that waits behind an earlier row of its
    ordering key is marked blocked. Both leave the due index, so that they are met once and hide nobody. Concurrent relays on
    PostgreSQL may together overshoot ``max_in_flight`` by one claim each.
    """
    allowance = limits.max_in_flight - tx.execute(_in_flight(tx.sql), channel=lane.channel).scalar_one()
    limit = min(limit, allowance, _tokens(tx, lane.channel, limits.rate))
    if limit > 0 and pacing.WHOLE_CHANNEL in limits.probed:
        limit = len(pacing.win_permits(tx, lane.channel, [pacing.WHOLE_CHANNEL], limits.permit_ms))
    if limit <= 0:
        return Claimed((), 0, capped=allowance <= 0)
    met, shut_out = _open_candidates(tx, lane, limit, limits.closed)
    postponed, probes = _missed_permits(tx, lane.channel, met, limits)
    postponed |= pacing.admit(tx, lane.channel, _others(met, postponed), limits).postponed
    _postpone(tx, postponed)
    going = _others(met, postponed)
    keyed = [row for row in going if row.ordering_key is not None]
    free = [row for row in going if row.ordering_key is None] if keyed else going
    per_key = 1 if limits.by_target or probes else limits.per_key
    in_turn = in_order(tx, lane.channel, keyed, limit=limit - len(free), per_key=per_key, closed=limits.closed | limits.probed)
    claims = _dispatch(tx, _oldest_first(met, [*([row] for row in free), *in_turn.chosen]) if keyed else free, owner)
    if limits.rate is not None:
        _spend(tx, lane.channel, limits.rate, len(claims))
    moved = len(claims) + shut_out + len(postponed) + in_turn.blocked
    return Claimed(claims, moved, capped=len(claims) >= allowance)


def redispatch(tx: Transaction, channel: str, limit: int, owner: str | None = None) -> list[Claim]:
    """Rows whose dispatch horizon passed, to be published again as they are: every copy in the broker stays valid."""
    return list(_claims(tx.execute(_redispatch(tx.sql), of_channel=channel, limit=limit, owner=owner)).values())


def recall(tx: Transaction, owner: str, within_ms: int, limit: int) -> int:
    """Give back what a process that is dead claimed in its last ``within_ms`` and nobody has taken: it may not be published.

    What it claimed before that is in the broker; to publish it again would only fill the broker with copies.
    """
    return len(tx.execute(_recall(tx.sql), owner=owner, within_ms=within_ms, limit=limit).all())


def _open_candidates(tx: Transaction, lane: Lane, limit: int, closed: Collection[str]) -> tuple[Sequence[Row[Any]], int]:
    """Due rows, and how many of closed targets were postponed on the way to them.

    Looks again where those were, a few times: claims that come back half empty make batches that are half empty, and each of
    them costs as much as a full one.
    """
    shut_out = 0
    until: dict[str, int | None] = {}
    for looks_left in reversed(range(_LOOKS)):
        met = tx.execute(_candidates(tx.sql), channel=lane.channel, priority=lane.priority, limit=limit).all()
        shut = [row for row in met if row.target in closed]
        if unknown := {row.target for row in shut} - until.keys():
            until |= _until_they_open(tx, lane.channel, unknown)
        postponed = {row.seq: until[row.target] for row in shut}
        _postpone(tx, postponed)
        shut_out += len(postponed)
        if not postponed or len(met) < limit or not looks_left:
            return _others(met, postponed), shut_out
    raise AssertionError("unreachable: the last look returns")


def _until_they_open(tx: Transaction, channel: str, targets: set[str]) -> dict[str, int | None]:
    """When to look again at targets that the relay has seen closed.

    Whoever opens one waits for this transaction, and then makes due what it has postponed; who has just done so will not.
    """
    until = pacing.held_closed(tx, channel, targets)
    if missed := targets - until.keys():
        until |= dict.fromkeys(missed, tx.moment() + GATE_MISSED_MS)
    return until


def _others(rows: Sequence[Row[Any]], postponed: Collection[int]) -> Sequence[Row[Any]]:
    return [row for row in rows if row.seq not in postponed] if postponed else rows


def _missed_permits(
    tx: Transaction, channel: str, rows: Sequence[Row[Any]], limits: Limits
) -> tuple[dict[int, int | None], bool]:
    """The rows of half-open targets but for one each, if nobody else's goes, with when to look again; and whether any goes."""
    probed = limits.probed - {pacing.WHOLE_CHANNEL}
    doubtful = [row for row in rows if row.target in probed] if probed else []
    if not doubtful:
        return {}, False
    postponed: dict[int, int | None] = {}
    permits = pacing.win_permits(tx, channel, (row.target for row in doubtful), limits.permit_ms)
    missed_until = tx.moment() + GATE_MISSED_MS
    going: set[str] = set()
    for row in doubtful:
        if row.target in permits and row.target not in going:
            going.add(row.target)
        else:
            postponed[row.seq] = permits.get(row.target, missed_until)
    return postponed, bool(going)


def _postpone(tx: Transaction, until: Mapping[int, int | None]) -> None:
    if until:
        tx.execute_on(_set_postponed(tx.sql), [{"seq": seq, "until": moment} for seq, moment in sorted(until.items())])


def _tokens(tx: Transaction, channel: str, rate: Rate | None) -> int:
    if rate is None:
        return sys.maxsize
    free_at = pacing.bucket(tx, channel, [pacing.WHOLE_CHANNEL])[pacing.WHOLE_CHANNEL]
    return tokens(rate, free_at, tx.moment())


def _spend(tx: Transaction, channel: str, rate: Rate, count: int) -> None:
    free_at = pacing.bucket(tx, channel, [pacing.WHOLE_CHANNEL])[pacing.WHOLE_CHANNEL]
    pacing.fill(tx, channel, {pacing.WHOLE_CHANNEL: spend(rate, free_at, tx.moment(), count)})


def _oldest_first(met: Sequence[Row[Any]], lines: Sequence[Sequence[Row[Any]]]) -> list[Row[Any]]:
    """The rows of all lines, each line in one piece, in the order in which their first rows were met."""
    place = {row.seq: index for index, row in enumerate(met)}
    return [row for line in sorted(lines, key=lambda line: place[line[0].seq]) for row in line]


def _dispatch(tx: Transaction, rows: Sequence[Row[Any]], owner: str | None) -> list[Claim]:
    if not rows:
        return []
    claims = _claims(tx.execute_on(_set_dispatched(tx.sql), [{"seq": row.seq} for row in rows], owner=owner))
    return [claims[row.seq] for row in rows if row.seq in claims]


def _claims(rows: Iterable[Sequence[Any]]) -> dict[int, Claim]:
    """Claims by seq. Rows are read by position: names would cost more than all else here, while SQLite's lock is held."""
    return {
        seq: Claim(message_id, lease, key, alone=bool(outcome_unknown), suspect=bool(suspect))
        for seq, message_id, lease, key, outcome_unknown, suspect in rows
    }


def _what_makes_a_claim(m: Table) -> tuple[ColumnElement[Any], ...]:
    """What makes a claim of a row."""
    suspect = and_(m.c.outcome_unknown == literal(1), m.c.last_error.in_(map(literal, DEATHS)))
    return m.c.seq, m.c.id, m.c.lease, m.c.ordering_key, m.c.outcome_unknown, func.coalesce(suspect, false()).label("suspect")


@lru_cache(maxsize=64)
def _in_flight(sql: Sql) -> Select[Any]:
    return select(in_flight(sql, bindparam("channel")))


@lru_cache(maxsize=64)
def _candidates(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    return (
        select(m.c.seq, m.c.target, m.c.ordering_key, m.c.outcome_unknown, m.c.attempt_count, m.c.next_attempt_at)
        .where(
            claimable(m),
            m.c.channel == bindparam("channel"),
            m.c.priority == bindparam("priority"),
            m.c.next_attempt_at <= sql.now,
            unexpired(sql, m.c),
        )
        .order_by(m.c.next_attempt_at, m.c.seq)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


@lru_cache(maxsize=64)
def _set_postponed(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"seq": BigInteger(), "until": BigInteger()})
    return (
        update(m)
        .where(sql.dialect.named(m.c.seq, r.c.seq), status_in(m, sources(Event.POSTPONE)))
        .values(next_attempt_at=func.coalesce(r.c.until, sql.now + CLOSED_UNTIL_RESUMED_MS), lease=m.c.lease + 1)
    )


def _horizon(sql: Sql, row: Any) -> ColumnElement[int]:
    """Published again, a message may wait as long as it has so far: a day without workers must not fill the broker with copies.

    Not so at its claim: it may have waited for its turn, and one lost copy would cost it, and all behind it, as long again.
    """
    return sql.now + clamp(sql.now - row.next_attempt_at, SHORTEST_HORIZON_MS, LONGEST_HORIZON_MS)


@lru_cache(maxsize=64)
def _set_dispatched(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"seq": BigInteger()})
    return (
        update(m)
        .where(sql.dialect.named(m.c.seq, r.c.seq), status_in(m, sources(Event.CLAIM)))
        .values(
            status=literal(target(Event.CLAIM)),
            lease_until=sql.now + SHORTEST_HORIZON_MS,
            lease_owner=bindparam("owner"),
            blocked=literal(0),
        )
        .returning(*_what_makes_a_claim(m))
    )


@lru_cache(maxsize=64)
def _redispatch(sql: Sql) -> Update:
    m = sql.tables.messages
    overdue = and_(m.c.status == literal(Status.DISPATCHED), m.c.channel == bindparam("of_channel"), m.c.lease_until < sql.now)
    rows = (
        select(m.c.seq)
        .where(overdue)
        .order_by(m.c.lease_until, m.c.seq)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
        .cte("rows")
    )
    return (
        update(m)
        .where(m.c.seq.in_(select(rows.c.seq)), overdue)
        .values(lease_until=_horizon(sql, m.c), lease_owner=bindparam("owner"))
        .returning(*_what_makes_a_claim(m))
    )


@lru_cache(maxsize=64)
def _recall(sql: Sql) -> Update:
    m = sql.tables.messages
    since = sql.now + SHORTEST_HORIZON_MS - bindparam("within_ms", type_=BigInteger)
    theirs = and_(m.c.status == literal(Status.DISPATCHED), m.c.lease_owner == bindparam("owner"), m.c.lease_until >= since)
    meant = locked_batch(sql, and_(theirs, unexpired(sql, m.c)), m.c.lease_until)
    return update(m).where(meant).values(**given_back(m)).returning(m.c.seq)
