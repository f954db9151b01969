"""What a soak looks at: memory and handles of the nodes that are spared, and what each database keeps for old readers."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import psycopg
from sqlalchemy.engine import make_url

from tests.integration.celery.nodes import Node
from tests.servers.keeper import process_tree
from tests.servers.postgresql import libpq_url

MB = 1 << 20
TABLE = "message_outbox"
MOST_WAL_MB = 64
"""What PostgreSQL is told to keep of its log between two checkpoints."""


class Database(Protocol):
    """Where rows lie, as its administrator sees it."""

    def wal_mb(self) -> float:
        """The size of its log."""
        ...

    def past(self) -> float:
        """What it keeps for the sake of old readers (see :class:`tests.crash.endurance.Sample`)."""
        ...

    def pin(self) -> Any:
        """A reader whose transaction stays open until it is closed."""
        ...


class SQLite:
    """A reader keeps the log from being written back and begun anew."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._wal = file.with_name(f"{file.name}-wal")

    def wal_mb(self) -> float:
        return self._wal.stat().st_size / MB if self._wal.exists() else 0.0

    past = wal_mb

    def pin(self) -> sqlite3.Connection:
        reader = sqlite3.connect(self._file, isolation_level=None)
        reader.execute("begin")
        reader.execute(f"select count(*) from {TABLE}").fetchone()
        return reader


class PostgreSQL:
    """A reader keeps dead rows from being vacuumed."""

    def __init__(self, url: str) -> None:
        self._url = libpq_url(make_url(url))
        self._do(
            "alter system set autovacuum_naptime = '2s'", f"alter system set max_wal_size = '{MOST_WAL_MB}MB'",
            "select pg_reload_conf()",
            f"alter table {TABLE} set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)",
        )  # fmt: skip

    def wal_mb(self) -> float:
        return self._number("select sum(size) from pg_ls_waldir()") / MB

    def past(self) -> float:
        return self._number(f"select n_dead_tup from pg_stat_user_tables where relname = '{TABLE}'")

    def pin(self) -> "psycopg.Connection[Any]":
        reader = psycopg.connect(self._url)
        reader.execute("set transaction isolation level repeatable read")
        reader.execute(f"select count(*) from {TABLE}".encode())
        return reader

    def _number(self, question: str) -> float:
        with psycopg.connect(self._url) as connection:
            [[number]] = connection.execute(question.encode()).fetchall()
            return float(number)

    def _do(self, *statements: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


def memory_mb(nodes: Sequence[Node]) -> dict[str, float]:
    """Resident memory by node."""
    return {node.name: sum(process.memory_info().rss for process in process_tree(node.pid)) / MB for node in nodes}


def handles(nodes: Sequence[Node]) -> dict[str, int]:
    """Open file descriptors by node."""
    return {node.name: sum(process.num_fds() for process in process_tree(node.pid)) for node in nodes}
