"""``replay``, ``cancel``, ``resolve`` and ``rehearse``: what operators do to rows, in their own transactions, on record.

A row that the action does not apply to is refused by name and reason, never skipped in silence.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import BigInteger, Row, Select, Text, Update, bindparam, select, update

from outbox.lifecycle import Event, Status, sources, target
from outbox.message import DispatchKind
from outbox.store.blocking import gaps_left_by, unblock
from outbox.store.inspecting import matching
from outbox.store.noting import Note, note
from outbox.store.records import MessageFilter, OperatorResult, Refusal
from outbox.store.schema import literal, status_in
from outbox.store.sql import Sql, Transaction


def replay(tx: Transaction, wanted: MessageFilter, limit: int, *, actor: str | None, reason: str | None) -> OperatorResult:
    """Make rows due now with a fresh TTL and all their attempts; lease + 1, so whatever was under way is fenced off."""
    rows = _lock(tx, wanted, limit, sources(Event.REPLAY))
    able = [row for row in rows if _replay_refusal(row) is None]
    changed = _write(tx, _replay(tx.sql), able, Event.REPLAY, actor, reason)
    return OperatorResult(_ids(changed), [*_refusals(rows, _replay_refusal), *_missing(wanted, rows)])


def cancel(tx: Transaction, wanted: MessageFilter, limit: int, *, actor: str | None, reason: str | None) -> OperatorResult:
    """Withdraw rows that are not being sent."""
    rows = _lock(tx, wanted, limit, sources(Event.CANCEL))
    able = [row for row in rows if _cancel_refusal(row) is None]
    changed = _write(tx, _cancel(tx.sql), able, Event.CANCEL, actor, reason)
    unblock(tx, gaps_left_by(changed))
    return OperatorResult(_ids(changed), [*_refusals(rows, _cancel_refusal), *_missing(wanted, rows)])


def resolve(
    tx: Transaction, wanted: MessageFilter, limit: int, *, sent: bool, actor: str | None, reason: str | None
) -> OperatorResult:
    """Parked rows of which an operator knows the outcome: recorded as delivered, or due again like a replay."""
    event, statement = (Event.RESOLVE_SENT, _resolve_sent(tx.sql)) if sent else (Event.REPLAY, _replay(tx.sql))
    rows = _lock(tx, wanted, limit, sources(Event.RESOLVE_SENT))
    able = [row for row in rows if _resolve_refusal(row, sent=sent) is None]
    changed = _write(tx, statement, able, event, actor, reason)
    unblock(tx, gaps_left_by(changed))
    return OperatorResult(_ids(changed), [*_refusals(rows, partial(_resolve_refusal, sent=sent)), *_missing(wanted, rows)])


def rehearse(tx: Transaction, event: Event, wanted: MessageFilter, limit: int) -> OperatorResult:
    """What :func:`replay`, :func:`cancel` or :func:`resolve` would come to now; nothing is changed, locked or noted."""
    refusals: dict[Event, Callable[[Row[Any]], str | None]] = {
        Event.REPLAY: _replay_refusal,
        Event.CANCEL: _cancel_refusal,
        Event.RESOLVE_SENT: partial(_resolve_refusal, sent=True),
    }
    refusal = refusals[event]
    c = tx.sql.tables.messages.c
    narrow = _meant(tx, wanted, limit, sources(event)).with_only_columns(c.id, c.status, c.dispatch_kind, c.blanked_at)
    rows = tx.execute(narrow).all()
    able = [row.id for row in rows if refusal(row) is None]
    return OperatorResult(able, [*_refusals(rows, refusal), *_missing(wanted, rows)])


def _meant(tx: Transaction, wanted: MessageFilter, limit: int, able: Iterable[Status]) -> Select[Any]:
    """The rows that are meant: all named ids, so that each refusal can be told; else up to ``limit`` of those able."""
    m = tx.sql.tables.messages
    statement = select(m).where(*matching(tx.sql, wanted)).order_by(m.c.seq)
    return statement if wanted.ids else statement.where(status_in(m, able)).limit(limit)


def _lock(tx: Transaction, wanted: MessageFilter, limit: int, able: Iterable[Status]) -> Sequence[Row[Any]]:
    return tx.execute(_meant(tx, wanted, limit, able).with_for_update()).all()


def _write(
    tx: Transaction, statement: Update, rows: Sequence[Row[Any]], event: Event, actor: str | None, reason: str | None
) -> Sequence[Row[Any]]:
    if not rows:
        return ()
    parameters = {"reason": reason} if event is Event.CANCEL else {}
    changed = tx.execute_on(statement, [{"seq": row.seq} for row in rows], **parameters).all()
    was = {row.id: row.status for row in rows}
    note(tx, str(event), actor, (Note(row.channel, was[row.id], row.id, reason) for row in changed))
    return changed


def _ids(rows: Iterable[Row[Any]]) -> list[str]:
    return sorted(row.id for row in rows)


def _replay_refusal(row: Row[Any]) -> str | None:
    if row.status == Status.SENDING:
        return "it is being sent right now; wait for its outcome"
    if row.status not in sources(Event.REPLAY):
        return f"it is {row.status}, so it will be tried anyway"
    if row.dispatch_kind not in (None, DispatchKind.FINAL):
        return f"it is a {row.dispatch_kind} message, which is sent once, live, or never"
    if row.blanked_at is not None:
        return "its payload was blanked after its retention"
    return None


def _cancel_refusal(row: Row[Any]) -> str | None:
    if row.status == Status.SENDING:
        return "it is being sent right now; wait for its outcome"
    if row.status not in sources(Event.CANCEL):
        return f"it is {row.status} already"
    return None


def _resolve_refusal(row: Row[Any], *, sent: bool) -> str | None:
    if row.status not in sources(Event.RESOLVE_SENT):
        return f"it is {row.status}, and only a parked message waits to be resolved"
    return None if sent else _replay_refusal(row)


def _refusals(rows: Iterable[Row[Any]], why: Callable[[Row[Any]], str | None]) -> list[Refusal]:
    return [Refusal(row.id, reason) for row in rows if (reason := why(row)) is not None]


def _missing(wanted: MessageFilter, rows: Iterable[Row[Any]]) -> list[Refusal]:
    found = {row.id for row in rows}
    only_named = replace(wanted, ids=()).is_empty and wanted.before_seq is None
    reason = "no message with that id is kept" if only_named else "it is not kept, or not among those meant"
    return [Refusal(message_id, reason) for message_id in wanted.ids if message_id not in found]


@lru_cache(maxsize=64)
def _replay(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"seq": BigInteger()})
    return (
        update(m)
        .where(sql.dialect.named(m.c.seq, r.c.seq), status_in(m, sources(Event.REPLAY)))
        .values(
            status=literal(target(Event.REPLAY)),
            lease=m.c.lease + 1,
            attempt_count=literal(0),
            next_attempt_at=sql.now,
            expires_at=sql.now + m.c.ttl_ms,
            outcome_unknown=literal(0),
            terminal_reason=None,
            delivered_at=None,
            completed_at=None,
            lease_until=None,
            blocked=literal(0),
        )
        .returning(m.c.seq, m.c.id, m.c.channel, m.c.ordering_key, m.c.status)
    )


@lru_cache(maxsize=64)
def _resolve_sent(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"seq": BigInteger()})
    return (
        update(m)
        .where(sql.dialect.named(m.c.seq, r.c.seq), status_in(m, sources(Event.RESOLVE_SENT)))
        .values(
            status=literal(target(Event.RESOLVE_SENT)),
            delivered_at=sql.began,
            completed_at=sql.now,
            terminal_reason="resolved by an operator as sent",
            lease_until=None,
            blocked=literal(0),
        )
        .returning(m.c.seq, m.c.id, m.c.channel, m.c.ordering_key, m.c.status)
    )


@lru_cache(maxsize=64)
def _cancel(sql: Sql) -> Update:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"seq": BigInteger()})
    return (
        update(m)
        .where(sql.dialect.named(m.c.seq, r.c.seq), status_in(m, sources(Event.CANCEL)))
        .values(
            status=literal(target(Event.CANCEL)),
            completed_at=sql.now,
            terminal_reason=bindparam("reason", type_=Text),
            lease_until=None,
            blocked=literal(0),
        )
        .returning(m.c.seq, m.c.id, m.c.channel, m.c.ordering_key, m.c.status)
    )
