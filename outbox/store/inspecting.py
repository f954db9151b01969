"""The verbs that only read: ``find``, ``list_messages``, ``attempts``, ``operations``, ``stats``, ``turn``, ``violations`` …"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, func, or_, select

from outbox.lifecycle import ACTIVE, DUE, EXPIRABLE, TERMINAL, Status
from outbox.message import AttemptRecord, DispatchKind, Message
from outbox.store.records import ChannelStats, GateKind, GateOperation, MessageFilter, OperationRecord, Violation
from outbox.store.schema import literal, status_in
from outbox.store.sql import Sql, Transaction, columns_of_message, to_message


def find(tx: Transaction, message_id: str) -> Message | None:
    """The message with that id, or ``None``."""
    row = tx.execute(_find(tx.sql), id=message_id).one_or_none()
    return None if row is None else to_message(row)


def list_messages(tx: Transaction, wanted: MessageFilter, limit: int) -> list[Message]:
    """Messages that match, newest first."""
    m = tx.sql.tables.messages
    statement = select(*columns_of_message(m)).where(*matching(tx.sql, wanted)).order_by(m.c.seq.desc()).limit(limit)
    return [to_message(row) for row in tx.execute(statement)]


def attempts(tx: Transaction, message_id: str) -> list[AttemptRecord]:
    """The recorded attempts of a message, first to last."""
    log = tx.sql.tables.attempts
    rows = tx.execute(select(log).where(log.c.message_id == message_id).order_by(log.c.lease))
    return [AttemptRecord(**row._mapping) for row in rows]


def operations(tx: Transaction, message_id: str) -> list[OperationRecord]:
    """What operators did to a message, first to last."""
    log = tx.sql.tables.operations
    columns = (log.c.action, log.c.from_status, log.c.at, log.c.actor, log.c.reason)
    rows = tx.execute(select(*columns).where(log.c.message_id == message_id).order_by(log.c.seq))
    return [OperationRecord(**row._mapping) for row in rows]


def gate_operations(tx: Transaction, limit: int) -> list[GateOperation]:
    """What operators paused and resumed, the latest first."""
    log = tx.sql.tables.operations
    rows = tx.execute(select(log).where(log.c.message_id.is_(None)).order_by(log.c.seq.desc()).limit(limit))
    return [GateOperation(row.channel, row.action, GateKind(row.from_status), row.at, row.actor, row.reason) for row in rows]


def stats(tx: Transaction) -> list[ChannelStats]:
    """Counts by channel and status, and the age of each channel's oldest due message."""
    counts: dict[str, dict[Status, int]] = {}
    for row in tx.execute(_counts(tx.sql)):
        counts.setdefault(row.channel, {})[Status(row.status)] = row.rows
    ages = {row.channel: row.age for row in tx.execute(_oldest_due(tx.sql))}
    return [ChannelStats(channel, by_status, ages.get(channel)) for channel, by_status in sorted(counts.items())]


def turn(tx: Transaction, turn_id: str) -> dict[Status, int]:
    """Counts by status of a turn's final messages; ``block`` and ``tool`` rows do not count."""
    return {Status(row.status): row.rows for row in tx.execute(_turn(tx.sql), turn_id=turn_id)}


def violations(tx: Transaction, limit: int) -> list[Violation]:
    """Rows that nothing will ever look at again, or that are in two places at once. Empty in a sound outbox."""
    return [Violation(row.id, row.status, row.problem) for row in tx.execute(_violations(tx.sql), limit=limit)]


def channels_in_use(tx: Transaction) -> dict[str, int]:
    """Counts of active messages by channel."""
    m = tx.sql.tables.messages
    rows = tx.execute(select(m.c.channel, func.count().label("rows")).where(status_in(m, ACTIVE)).group_by(m.c.channel))
    return {row.channel: row.rows for row in rows}


def now_ms(tx: Transaction) -> int:
    """The present moment, epoch milliseconds, by the clock that decides what is due."""
    return int(tx.execute(select(tx.sql.now)).scalar_one())


def matching(sql: Sql, wanted: MessageFilter) -> Sequence[ColumnElement[bool]]:
    """The filter as SQL conditions."""
    c = sql.tables.messages.c
    conditions: list[ColumnElement[bool]] = []
    if wanted.ids:
        conditions.append(c.id.in_(wanted.ids))
    if wanted.status is not None:
        conditions.append(c.status == literal(wanted.status))
    if wanted.channel is not None:
        conditions.append(c.channel == wanted.channel)
    if wanted.target is not None:
        conditions.append(c.target == wanted.target)
    if wanted.turn_id is not None:
        conditions.append(c.turn_id == wanted.turn_id)
    if wanted.before_seq is not None:
        conditions.append(c.seq < wanted.before_seq)
    return conditions


@lru_cache(maxsize=64)
def _find(sql: Sql) -> Select[Any]:
    return select(*columns_of_message(sql.tables.messages)).where(sql.tables.messages.c.id == bindparam("id"))


@lru_cache(maxsize=64)
def _counts(sql: Sql) -> Select[Any]:
    c = sql.tables.messages.c
    return select(c.channel, c.status, func.count().label("rows")).group_by(c.channel, c.status)


@lru_cache(maxsize=64)
def _oldest_due(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    age = (sql.now - func.min(m.c.next_attempt_at)).label("age")
    return select(m.c.channel, age).where(status_in(m, DUE), m.c.next_attempt_at <= sql.now).group_by(m.c.channel)


@lru_cache(maxsize=64)
def _turn(sql: Sql) -> Select[Any]:
    c = sql.tables.messages.c
    final = or_(c.dispatch_kind.is_(None), c.dispatch_kind == literal(DispatchKind.FINAL))
    return select(c.status, func.count().label("rows")).where(c.turn_id == bindparam("turn_id"), final).group_by(c.status)


@lru_cache(maxsize=64)
def _violations(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    in_flight = status_in(m, (Status.DISPATCHED, Status.SENDING))
    kinds = {
        "in flight without a moment at which it is looked at again": and_(in_flight, m.c.lease_until.is_(None)),
        "marked blocked without an ordering key to wait in": and_(
            status_in(m, DUE), m.c.blocked == literal(1), m.c.ordering_key.is_(None)
        ),
        "terminal without a completion time, so never pruned": and_(status_in(m, TERMINAL), m.c.completed_at.is_(None)),
        "active and yet completed": and_(status_in(m, ACTIVE), m.c.completed_at.is_not(None)),
        "never due: stamped defaults without attempts": and_(
            status_in(m, EXPIRABLE), m.c.stamped == literal(1), m.c.max_attempts.is_(None)
        ),
        "never claimed: tried and yet never stamped": and_(
            m.c.status == literal(Status.FAILED_RETRYABLE), m.c.stamped == literal(0)
        ),
        "never sent again: tried, and not final": and_(
            status_in(m, EXPIRABLE), m.c.attempt_count > literal(0), m.c.dispatch_kind != literal(DispatchKind.FINAL)
        ),
        "in a status that does not exist": ~status_in(m, Status),
    }
    problem = case(*((condition, text) for text, condition in kinds.items()))
    return (
        select(m.c.id, m.c.status, problem.label("problem"))
        .where(or_(*kinds.values()))
        .order_by(m.c.seq)
        .limit(bindparam("limit"))
    )
