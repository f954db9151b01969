"""Where a dry run writes: a temporary file, so that it comes to the same summary as the import and changes nothing."""

import sqlite3
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from outbox.legacy.agenda import TEMPORARY_FILE
from outbox.store.records import ImportedEntry, ImportReceipt


class Destination(Protocol):
    """What an import needs of the store; the verbs' contracts are those of :class:`outbox.store.protocol.Store`."""

    def now_ms(self) -> int: ...

    def receipts(self, source_ids: Sequence[str]) -> dict[str, ImportReceipt]: ...

    def import_entries(self, entries: Sequence[ImportedEntry]) -> frozenset[str]: ...

    def read_back(self, entries: Sequence[ImportedEntry]) -> frozenset[str]: ...


class Rehearsal:
    """A destination that knows the receipts of the ``store``, and forgets its own when it is closed."""

    def __init__(self, store: Destination) -> None:
        self._store = store
        self._receipts = sqlite3.connect(TEMPORARY_FILE, isolation_level=None)
        self._receipts.execute("create table receipt (source_id text primary key, digest text, outcome text) without rowid")
        self._receipts.execute("begin")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._receipts.close()

    def now_ms(self) -> int:
        """The present moment by the store's clock."""
        return self._store.now_ms()

    def receipts(self, source_ids: Sequence[str]) -> dict[str, ImportReceipt]:
        """The store's receipts, and those of this rehearsal."""
        own = {source_id: receipt for source_id in source_ids if (receipt := self._own(source_id)) is not None}
        return own | self._store.receipts(source_ids)

    def import_entries(self, entries: Sequence[ImportedEntry]) -> frozenset[str]:
        """Note the entries, as if they were written."""
        rows = [(entry.source_id, entry.digest, str(entry.outcome)) for entry in entries]
        self._receipts.executemany("insert into receipt values (?, ?, ?)", rows)
        return self.read_back(entries)

    def read_back(self, entries: Sequence[ImportedEntry]) -> frozenset[str]:
        """All of them: nothing was written that could be missing."""
        return frozenset(entry.source_id for entry in entries)

    def _own(self, source_id: str) -> ImportReceipt | None:
        row = self._receipts.execute("select digest, outcome from receipt where source_id = ?", [source_id]).fetchone()
        return None if row is None else ImportReceipt(row[0], row[1], None)
