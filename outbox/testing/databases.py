"""A database in memory that several threads and engines of one process share, as they would share a file."""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache

from outbox.errors import ConfigurationError
from outbox.outbox import Outbox

_OLDEST = (3, 36, 0)


@contextmanager
def sqlite_in_memory(*, with_schema: bool = False) -> Iterator[str]:
    """The URL of a SQLite database, which is gone when the block ends: empty, or with the outbox's tables.

    Each connection is one of its own, with locks as on a file; ``sqlite://`` would be one connection, in which transactions of
    several threads run into each other. Raises :class:`~outbox.errors.ConfigurationError` on SQLite older than 3.36.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise ConfigurationError(f"SQLite {sqlite3.sqlite_version} cannot share a database in memory: use a file")
    file = f"file:/outbox-{uuid.uuid4().hex}?vfs=memdb"
    with closing(sqlite3.connect(file, uri=True)) as keeper:  # the database lives as long as its last connection
        if with_schema:
            _template().backup(keeper)
        yield f"sqlite:///{file}&uri=true"


@cache
def _template() -> sqlite3.Connection:
    """A database with the tables, made once in a process: to copy it takes a hundredth of the time."""
    template = sqlite3.connect(":memory:", check_same_thread=False)
    with sqlite_in_memory() as url, closing(Outbox(url)) as outbox:
        outbox.upgrade_schema()
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), uri=True)) as made:
            made.backup(template)
    return template
