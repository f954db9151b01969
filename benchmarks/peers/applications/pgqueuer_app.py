"""pgqueuer: jobs in PostgreSQL, run by its own asynchronous worker on asyncpg and uvloop."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import uvloop
from pgqueuer import PgQueuer, run
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.peers.applications import work

BATCH_SIZE = 100
"""Claimed and acknowledged together, ten times its default."""
CONNECTIONS = 20
"""To the counter: an error there would end a job, and it would count as done."""


def worker() -> None:
    """What `pgq run` does, without its logging."""
    uvloop.run(run(manager, batch_size=BATCH_SIZE))


@asynccontextmanager
async def manager() -> AsyncIterator[PgQueuer]:
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(work.postgresql_url())))
    counting = work.Counting(CONNECTIONS)

    @queue.entrypoint("count")
    async def count(_job: Job) -> None:
        await counting.count_one()

    yield queue
    await counting.close()


def prepare() -> None:
    uvloop.run(_with_queries(lambda queries: queries.install()))


def load(number: int) -> None:
    uvloop.run(_with_queries(lambda queries: queries.enqueue(["count"] * number, [None] * number, [0] * number)))


async def _with_queries(verb: Callable[[Queries], Awaitable[object]]) -> None:
    connection = await asyncpg.connect(work.postgresql_url())
    await verb(Queries(AsyncpgDriver(connection)))
    await connection.close()
