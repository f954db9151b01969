"""The steps of a message's life, one line each, and the verdicts that end an attempt."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, func, select

from outbox.lifecycle import Status
from outbox.message import Claim, ErrorClass, Message
from outbox.policy.destination import Limits
from outbox.policy.retry import Verdict
from outbox.store.records import Claimed, GateKind, Lane, MessageFilter, NewRow, OperatorResult, Settled, Settlement, Taker
from outbox.store.sqlstore import SQLStore
from outbox.testing.clock import START_MS

CHANNEL = "webhook"
NOW = START_MS
SECOND = 1_000
MINUTE = 60 * SECOND
RUN_LEASE_MS = 30 * SECOND

DELIVERED = Verdict(Status.DELIVERED)
DEAD = Verdict(Status.FAILED_TERMINAL, error="HTTP 400", error_class=ErrorClass.PERMANENT, reason="permanent failure")
PARKED = Verdict(
    Status.PARKED, error="no answer", error_class=ErrorClass.UNKNOWN, reason="unknown outcome", outcome_unknown=True
)
WITHHELD = Verdict(Status.CANCELLED, reason="nothing to say")
DEFERRED = Verdict(Status.QUEUED, 5 * SECOND, reason="not connected", charged=False)
RETRY = Verdict(Status.FAILED_RETRYABLE, 5 * SECOND, error="HTTP 503", error_class=ErrorClass.TRANSIENT)
RESCUED = Verdict(
    Status.FAILED_RETRYABLE, 5 * SECOND, error="the lease ran out", error_class=ErrorClass.UNKNOWN, outcome_unknown=True
)


def new_row(**fields: Any) -> NewRow:
    """A message of a channel whose defaults are known: due at once, without a TTL, five attempts."""
    row: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "channel": CHANNEL,
        "account_id": "",
        "target": "https://receiver.example/hook",
        "turn_id": None,
        "dispatch_kind": "final",
        "payload": '{"text":"hello"}',
        "headers": None,
        "ordering_key": None,
        "priority": 0,
        "idempotency_key": None,
        "max_attempts": 5,
        "delay_ms": 0,
        "due_at": None,
        "ttl_ms": None,
        "stamped": True,
    }
    return NewRow(**{**row, **fields})


def enqueue(store: SQLStore, *rows: NewRow) -> list[str]:
    """Commit the rows, as an application would; their ids."""
    with store.transaction() as tx:
        return [queued.id for queued in store.add(tx.connection, rows)]


def enqueue_named(store: SQLStore, *names: str, **fields: Any) -> None:
    """Commit rows whose ids are ``names``."""
    enqueue(store, *(new_row(id=name, **fields) for name in names))


def talk(store: SQLStore, *names: str, **fields: object) -> None:
    """Rows of one conversation."""
    enqueue_named(store, *names, ordering_key="chat", **fields)


def claim_all(
    store: SQLStore, *, channel: str = CHANNEL, priority: int = 0, limit: int = 100, max_in_flight: int = 1_000,
    per_key: int = 100, closed: Mapping[str, int | None] | None = None, owner: str | None = None,
) -> Claimed:  # fmt: skip
    shut(store, closed or {}, channel=channel)
    lane = Lane(channel, priority, oldest_due_at=0)
    return store.claim(lane, limit, Limits(max_in_flight=max_in_flight, per_key=per_key, closed=frozenset(closed or ())), owner)


def shut(store: SQLStore, closed: Mapping[str, int | None], *, channel: str = CHANNEL) -> None:
    """Close these targets until the moments that stand with them, as the relay has seen them."""
    for target, until in closed.items():
        for_ms = None if until is None else until - store.now_ms()
        store.close(channel, target, GateKind.GONE, for_ms=for_ms, reason="HTTP 410")


def claim(store: SQLStore, **options: Any) -> list[Claim]:
    return list(claim_all(store, **options).claims)


def ids(claims: Sequence[Claim] | Sequence[Message]) -> list[str]:
    return [each.id for each in claims]


def take(store: SQLStore, claims: Sequence[Claim], *, channel: str = CHANNEL, owner: str = "worker-1") -> list[Message]:
    return store.take(claims, Taker(channel, owner, RUN_LEASE_MS))


def begin(store: SQLStore, name: str, **fields: Any) -> Message:
    """A message that has just been taken, all the way from its enqueue."""
    enqueue(store, new_row(id=name, **fields))
    return begin_again(store, name)


def begin_again(store: SQLStore, name: str) -> Message:
    """The message, which is due, taken once more."""
    row = stored(store, name)
    claims = [each for each in claim(store, channel=row.channel, priority=row.priority) if each.id == name]
    (message,) = take(store, claims, channel=row.channel)
    return message


def settlement(message: Message, verdict: Verdict, *, outcome: str = "ended", receipt: str | None = None) -> Settlement:
    return Settlement(message.id, message.lease, verdict, outcome, receipt)


def settle(store: SQLStore, message: Message, verdict: Verdict, **fields: Any) -> Settled:
    return store.settle([settlement(message, verdict, **fields)])


def rescue(store: SQLStore, verdict: Verdict = RESCUED, *, owner: str | None = None) -> int:
    return store.rescue(lambda _message: verdict, 100, owner=owner)


def replay(store: SQLStore, *names: str) -> OperatorResult:
    return store.replay(MessageFilter(ids=names), 100, actor="ada", reason="asked to")


def cancel(store: SQLStore, *names: str) -> OperatorResult:
    return store.cancel(MessageFilter(ids=names), 100, actor="ada", reason="asked to")


def prune(store: SQLStore, status: Status, kept_ms: int, limit: int = 100) -> int:
    return store.prune(CHANNEL, status, kept_ms, limit)


def end_as(store: SQLStore, name: str, status: Status) -> Message:
    """A message that has come all the way to a terminal status or to ``parked``; returned as its sender last saw it."""
    message = begin(store, name)
    match status:
        case Status.DELIVERED:
            settle(store, message, DELIVERED)
        case Status.FAILED_TERMINAL:
            settle(store, message, DEAD)
        case Status.PARKED:
            settle(store, message, PARKED)
        case Status.CANCELLED:
            settle(store, message, RESCUED)
            cancel(store, name)
        case Status.EXPIRED:
            settle(store, message, RESCUED)
            put(store, name, expires_at=0)
            store.expire(100)
        case _:
            raise ValueError(status)
    assert stored(store, name).status == status
    return message


class Stored:
    """A row as it stands in the table, column by column."""

    def __init__(self, mapping: RowMapping) -> None:
        self.columns = dict(mapping)

    def __getattr__(self, column: str) -> Any:
        return self.columns[column]


def stored(store: SQLStore, name: str) -> Stored:
    m = store.tables.messages
    with store.transaction(read_only=True) as tx:
        return Stored(tx.connection.execute(select(m).where(m.c.id == name)).mappings().one())


def bring_to(store: SQLStore, name: str, status: Status) -> None:
    """A message in any status."""
    match status:
        case Status.QUEUED:
            enqueue_named(store, name)
        case Status.DISPATCHED:
            enqueue_named(store, name)
            claim(store)
        case Status.SENDING:
            begin(store, name)
        case Status.FAILED_RETRYABLE:
            settle(store, begin(store, name), RETRY)
        case _:
            end_as(store, name, status)
    assert stored(store, name).status == status


def statuses(store: SQLStore) -> dict[str, str]:
    """The status of every message by its id."""
    m = store.tables.messages
    with store.transaction(read_only=True) as tx:
        return {row.id: row.status for row in tx.connection.execute(select(m.c.id, m.c.status))}


def count(store: SQLStore) -> int:
    with store.transaction(read_only=True) as tx:
        return tx.connection.execute(select(func.count()).select_from(store.tables.messages)).scalar_one()


def put(store: SQLStore, name: str, **columns: Any) -> None:
    """Write columns behind the store's back: what a defect, an older release or a wrong clock would have left there."""
    m = store.tables.messages
    with store.transaction() as tx:
        tx.connection.execute(m.update().where(m.c.id == name).values(**columns))
