"""procrastinate: jobs in PostgreSQL, run by its own asynchronous worker."""

import procrastinate

from benchmarks.peers.applications import work

CONCURRENCY = 20
AT_ONCE = 1_000

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=work.postgresql_url(), min_size=CONCURRENCY, max_size=CONCURRENCY + 4, timeout=30
    )
)
_counting: list[work.Counting] = []


@app.task(name="count")
async def count() -> None:
    if not _counting:
        _counting.append(work.Counting(CONCURRENCY))
    await _counting[0].count_one()


def prepare() -> None:
    with app.open():
        app.schema_manager.apply_schema()


def load(number: int) -> None:
    with app.open():
        for start in range(0, number, AT_ONCE):
            count.batch_defer(*({} for _ in range(min(AT_ONCE, number - start))))
