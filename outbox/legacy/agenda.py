"""What is to be imported, in order, in a temporary file: a queue of any length takes no more memory."""

import os
import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from outbox.legacy.directory import Found, Place

TEMPORARY_FILE = ""
"""SQLite's name for a database on disk that nobody else sees and that goes with its connection."""


class Agenda:
    """Files by place, then by the time of their entry, then by name. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect(TEMPORARY_FILE, isolation_level=None)
        self._rows.execute(
            "create table file (place integer, at integer, name blob, primary key (place, at, name)) without rowid"
        )
        self._rows.execute("begin")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._rows.close()

    def add(self, found: Found, at_ms: int) -> None:
        """Put a file in its place; ``at_ms`` is when its entry was enqueued (epoch milliseconds)."""
        self._rows.execute("insert into file values (?, ?, ?)", (int(found.place), at_ms, os.fsencode(found.name)))

    def __len__(self) -> int:
        return int(self._rows.execute("select count(*) from file").fetchone()[0])

    def __iter__(self) -> Iterator[Found]:
        for place, name in self._rows.execute("select place, name from file order by place, at, name"):
            yield Found(Place(place), os.fsdecode(name))
