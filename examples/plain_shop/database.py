"""The shop's database, its own data, and the outbox in it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy import make_url

from outbox import Outbox

URL = os.environ.get("SHOP_DATABASE_URL", "sqlite:///shop.db")

outbox = Outbox(URL)


@contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    """A connection for one transaction: committed at the end of the block, rolled back where that raises."""
    with closing(sqlite3.connect(str(make_url(URL).database), timeout=30)) as connection, connection:
        yield connection


def create_tables() -> None:
    """The shop's own table; ``outbox db upgrade`` makes the outbox's."""
    with transaction() as connection:
        connection.execute(
            "create table if not exists orders"
            " (number integer primary key, customer text not null, item text not null, packed integer not null default 0)"
        )
