"""The statements that a store really sends, as the driver gets them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event

from outbox.store.sqlstore import SQLStore


@dataclass(frozen=True)
class Statement:
    """One statement with its parameters. ``BEGIN`` and ``COMMIT`` are not among them."""

    sql: str
    parameters: Any


@contextmanager
def recorded(store: SQLStore) -> Iterator[list[Statement]]:
    """The statements of the block, in order."""
    sent: list[Statement] = []

    def note(_connection: Any, _cursor: Any, sql: str, parameters: Any, *_rest: Any) -> None:
        if not sql.startswith("BEGIN"):
            sent.append(Statement(sql, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(store.engine, "before_cursor_execute", note)
