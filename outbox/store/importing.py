"""``receipts``, ``import_entries``, ``read_back`` and ``is_durable``: messages of another queue, brought here once for ever.

A receipt is written in the transaction that writes the messages, and outlives them: pruning touches no receipt.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Insert, Row, Select, Text, and_, bindparam, insert, select

from outbox.errors import OutboxError
from outbox.store.records import History, ImportedEntry, ImportReceipt, NewRow
from outbox.store.schema import literal
from outbox.store.sql import NOW, Sql, Transaction


def receipts(tx: Transaction, source_ids: Iterable[str]) -> dict[str, ImportReceipt]:
    """The receipts of those sources that have one, by source."""
    rows = tx.execute_on(_receipts(tx.sql), [{"source_id": source_id} for source_id in source_ids])
    return {row.source_id: ImportReceipt(row.digest, row.outcome, row.message_id) for row in rows}


def import_entries(tx: Transaction, entries: Sequence[ImportedEntry]) -> frozenset[str]:
    """Write receipts and messages of the entries that have no receipt yet, and return their sources.

    An entry is also left out, receipt and all, when a message stands that has one of its idempotency keys. Receipts come
    first and in sorted order: of two imports at once the second waits for the first, and then finds its receipts. Raises
    :class:`~outbox.errors.OutboxError`, and writes nothing, where something in the database drops or changes the rows.
    """
    standing = {row.idempotency_key for row in tx.execute_on(_standing(tx.sql), _keys(entries))}
    free = [entry for entry in entries if standing.isdisjoint(message.idempotency_key for message in entry.messages)]
    if not free:
        return frozenset()
    now = {NOW: tx.now_ms} if tx.sql.binds_now else {}
    written = tx.connection.execute(
        _write_receipts(tx.sql), [_receipt(entry) | now for entry in sorted(free, key=lambda entry: entry.source_id)]
    )
    new = frozenset(written.scalars())
    brought = [entry for entry in free if entry.source_id in new]
    rows = [_row(message, entry.history) for entry in brought for message in entry.messages]
    if rows:
        tx.connection.execute(_write_messages(tx.sql), rows)
    if read_back(tx, brought) != new:
        raise OutboxError("the database did not keep imported messages as they were written; none of the batch was imported")
    return new


def read_back(tx: Transaction, entries: Sequence[ImportedEntry]) -> frozenset[str]:
    """The sources whose receipt and messages stand exactly as these entries would have them."""
    found = receipts(tx, [entry.source_id for entry in entries])
    rows = {row.id: row for row in tx.execute_on(_standing(tx.sql), _keys(entries))}
    return frozenset(
        entry.source_id
        for entry in entries
        if found.get(entry.source_id) == ImportReceipt(entry.digest, entry.outcome, entry.message_id)
        and all(_is_as_meant(rows.get(message.id), message, entry.history) for message in entry.messages)
    )


def is_durable(tx: Transaction) -> bool:
    """Whether what is committed is on disk, and not in the memory of this process."""
    if tx.connection.dialect.name != "sqlite":
        return True
    return tx.connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() not in ("memory", "off")


def _receipt(entry: ImportedEntry) -> dict[str, Any]:
    return {
        "source_id": entry.source_id, "digest": entry.digest, "outcome": str(entry.outcome), "message_id": entry.message_id,
    }  # fmt: skip


def _row(message: NewRow, history: History | None) -> dict[str, Any]:
    if history is None:
        raise ValueError("messages of another queue need a history")
    written = {name: getattr(message, name) for name in _OF_MESSAGE} | {name: getattr(history, name) for name in _OF_HISTORY}
    return written | {"status": str(history.status), "lease": history.attempt_count}


def _is_as_meant(row: Row[Any] | None, message: NewRow, history: History | None) -> bool:
    """By what nobody changes later: the row may be on its way already."""
    if row is None or history is None:
        return False
    return row.queued_at == history.queued_at and all(getattr(row, name) == getattr(message, name) for name in _LASTING)


def _keys(entries: Iterable[ImportedEntry]) -> list[dict[str, str | None]]:
    return [{"channel": message.channel, "key": message.idempotency_key} for entry in entries for message in entry.messages]


@lru_cache(maxsize=64)
def _receipts(sql: Sql) -> Select[Any]:
    table = sql.tables.imports
    r = sql.dialect.records("r", {"source_id": Text()})
    return select(table.c.source_id, table.c.digest, table.c.outcome, table.c.message_id).join_from(
        r, table, table.c.source_id == r.c.source_id
    )


@lru_cache(maxsize=64)
def _standing(sql: Sql) -> Select[Any]:
    m = sql.tables.messages
    r = sql.dialect.records("r", {"channel": Text(), "key": Text()})
    same = and_(m.c.channel == r.c.channel, m.c.idempotency_key == r.c.key, m.c.idempotency_key.is_not(None))
    return select(m.c.id, m.c.queued_at, *(m.c[name] for name in _LASTING)).join_from(r, m, same)


@lru_cache(maxsize=64)
def _write_receipts(sql: Sql) -> Any:
    table = sql.tables.imports
    return (
        sql.dialect.insert(table)
        .values(
            **{name: bindparam(name, type_=Text) for name in ("source_id", "digest", "outcome", "message_id")},
            imported_at=sql.now,
        )
        .on_conflict_do_nothing(index_elements=[table.c.source_id])
        .returning(table.c.source_id)
    )


@lru_cache(maxsize=64)
def _write_messages(sql: Sql) -> Insert:
    columns = (*_OF_MESSAGE, *_OF_HISTORY, "lease")
    return insert(sql.tables.messages).values(**{name: bindparam(name) for name in columns}, stamped=literal(1))


_LASTING = (
    "channel", "account_id", "target", "turn_id", "payload", "ordering_key", "idempotency_key",
)  # fmt: skip

_OF_MESSAGE = ("id", "dispatch_kind", "headers", "priority", "max_attempts", *_LASTING)

_OF_HISTORY = (
    "status", "queued_at", "attempt_count", "next_attempt_at", "expires_at", "last_attempt_at", "last_error", "error_class",
    "terminal_reason", "completed_at",
)  # fmt: skip
