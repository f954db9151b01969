"""A database in memory that several threads and engines of one process share, as they would share a file."""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

from outbox.errors import ConfigurationError

_OLDEST = (3, 36, 0)


@contextmanager
def sqlite_in_memory() -> Iterator[str]:
    """The URL of an empty SQLite database, which is gone when the block ends.

    Each connection is one of its own, with locks as on a file; ``sqlite://`` would be one connection, in which transactions of
    several threads run into each other. Raises :class:`~outbox.errors.ConfigurationError` on SQLite older than 3.36.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise ConfigurationError(f"SQLite {sqlite3.sqlite_version} cannot share a database in memory: use a file")
    file = f"file:/outbox-{uuid.uuid4().hex}?vfs=memdb"
    with closing(sqlite3.connect(file, uri=True)):  # the database lives as long as its last connection
        yield f"sqlite:///{file}&uri=true"
