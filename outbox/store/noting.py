"""``note``: the record of what operators did, to messages and to what was closed, in the transaction in which they did it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache

from sqlalchemy import Insert, Text, bindparam, insert, select

from outbox.store.sql import Sql, Transaction


@dataclass(frozen=True, slots=True)
class Note:
    """One subject of an action: a message, or with no ``message_id`` a gate.

    ``from_status`` is where it stood before: the status of the message, the kind of the gate.
    """

    channel: str
    from_status: str
    message_id: str | None
    reason: str | None


def note(tx: Transaction, action: str, actor: str | None, notes: Iterable[Note]) -> None:
    """Put an action on record, with a line for each of its subjects."""
    tx.execute_on(_note(tx.sql), map(asdict, notes), action=action, actor=actor)


@lru_cache(maxsize=64)
def _note(sql: Sql) -> Insert:
    log = sql.tables.operations
    r = sql.dialect.records("r", {"message_id": Text(), "channel": Text(), "from_status": Text(), "reason": Text()})
    row = select(
        r.c.message_id, r.c.channel, r.c.from_status, bindparam("action", type_=Text), sql.now, bindparam("actor", type_=Text),
        r.c.reason,
    )  # fmt: skip
    return insert(log).from_select(["message_id", "channel", "from_status", "action", "at", "actor", "reason"], row)
