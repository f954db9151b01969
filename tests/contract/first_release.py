"""The first release as its successors meet it: what it says to the database and to the broker, word for word.

Frozen, because it runs on beside them while a deployment rolls: this file never changes with the code.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import text

from outbox.store.sqlstore import SQLStore

ENQUEUE = """
insert into message_outbox (id, channel, account_id, target, dispatch_kind, payload, ordering_key, priority, status, queued_at,
    next_attempt_at, max_attempts, stamped)
values (:id, :channel, '', 'somewhere', 'final', '{"text":"hello"}', :ordering_key, 0, 'queued', :now, :now, 5, 1)
"""
CLAIM = """
update message_outbox set status = 'dispatched', lease_until = :now + 60000, blocked = 0
where seq in (
    select seq from message_outbox
    where status in ('failed_retryable', 'queued') and blocked = 0 and stamped = 1 and channel = :channel
        and next_attempt_at <= :now
    order by next_attempt_at, seq limit 100 {lock}
)
returning id, lease
"""
TAKE = """
update message_outbox set status = 'sending', lease = lease + 1, attempt_count = attempt_count + 1, last_attempt_at = :now,
    lease_until = :now + 30000, lease_owner = 'first release', blocked = 0
where id = :id and lease = :lease and channel = :channel and status in ('dispatched', 'queued')
    and (status = 'dispatched' or next_attempt_at <= :now)
    and not exists (
        select 1 from message_outbox other
        where other.channel = message_outbox.channel and other.ordering_key = message_outbox.ordering_key
            and other.status in ('dispatched', 'failed_retryable', 'parked', 'queued', 'sending')
            and (other.seq < message_outbox.seq or (other.seq <> message_outbox.seq and other.status = 'sending'))
    )
returning id, lease
"""
DELIVER = """
update message_outbox set status = 'delivered', delivered_at = :now, completed_at = :now, lease_until = null, blocked = 0
where id = :id and lease = :lease and status <> 'delivered'
returning id
"""
RETRY = """
update message_outbox set status = 'failed_retryable', next_attempt_at = :now + 5000, last_error = 'HTTP 503',
    error_class = 'transient', lease_until = null
where id = :id and lease = :lease and status = 'sending'
returning id
"""
UNBLOCK = """
update message_outbox set blocked = 0
where blocked = 1 and ordering_key = (select key.ordering_key from message_outbox key where key.id = :id)
"""

Held = Sequence[tuple[str, int]]


class FirstRelease:
    """Its relay and its worker, on the database of ``store``."""

    def __init__(self, store: SQLStore, now: Callable[[], int], channel: str) -> None:
        self._store = store
        self._now = now
        self._channel = channel

    def enqueue(self, *names: str, ordering_key: str | None = None) -> None:
        for name in names:
            self._run(ENQUEUE, id=name, ordering_key=ordering_key)

    def claim(self) -> Held:
        lock = "for update skip locked" if self._store.sql.dialect.locks_rows else ""
        return sorted(self._run(CLAIM.format(lock=lock)))

    def take(self, name: str, lease: int) -> Held:
        return self._run(TAKE, id=name, lease=lease)

    def deliver(self, name: str, lease: int) -> bool:
        """Whether the outcome was recorded."""
        recorded = bool(self._run(DELIVER, id=name, lease=lease))
        self._run(UNBLOCK, id=name)
        return recorded

    def retry(self, name: str, lease: int) -> bool:
        """The same, of a failure."""
        return bool(self._run(RETRY, id=name, lease=lease))

    def _run(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        terms = {"now": self._now(), "channel": self._channel, **parameters}
        with self._store.transaction() as tx:
            result = tx.connection.execute(text(statement), {name: terms[name] for name in terms if f":{name}" in statement})
            return [tuple(row) for row in result] if result.returns_rows else []


def reads(envelope: dict[str, Any]) -> list[tuple[str, int, int | None]] | None:
    """The claims that it finds in the keyword arguments of a delivery task; ``None`` where it ignores the message."""
    rows = envelope.get("claims")
    if envelope.get("v") != 1 or not isinstance(rows, list):
        return None
    claims = []
    for row in rows:
        match row:
            case [str(name), int(lease)]:
                claims.append((name, lease, None))
            case [str(name), int(lease), int(group)]:
                claims.append((name, lease, group))
            case _:
                return None
    return claims


WRITES = {"v": 1, "claims": [["a", 0], ["b", 3, 1], ["c", 2, 1]], "more": True}
"""What it published before its successor came."""
