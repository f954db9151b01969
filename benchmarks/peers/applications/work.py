"""What is alike in all peers' applications: where things are, and the work of one message."""

import asyncio
import os
from urllib.parse import urlsplit

import redis.asyncio

from benchmarks.applications.settings import COUNTER, DATABASE, broker, count_one

__all__ = ["Counting", "broker", "count_one", "postgresql_url", "sqlite_file"]


def sqlite_file() -> str | None:
    """The file of the SQLite database; none where it is PostgreSQL."""
    scheme, _, path = os.environ[DATABASE].partition(":///")
    return path if scheme == "sqlite" else None


def postgresql_url() -> str:
    """As libpq, psycopg and asyncpg understand it."""
    return urlsplit(os.environ[DATABASE])._replace(scheme="postgresql").geturl()


class Counting:
    """``count_one`` for coroutines, over so many connections that each has for itself meanwhile."""

    def __init__(self, connections: int) -> None:
        self._pool = redis.asyncio.ConnectionPool.from_url(broker())
        self._idle: asyncio.LifoQueue[redis.asyncio.Connection | None] = asyncio.LifoQueue()
        for _ in range(connections):
            self._idle.put_nowait(None)

    async def count_one(self) -> None:
        connection = await self._idle.get() or await self._pool.get_connection()
        await connection.send_command("INCR", COUNTER)
        await connection.read_response()
        self._idle.put_nowait(connection)

    async def close(self) -> None:
        await self._pool.disconnect()
