"""huey: tasks in SQLite or PostgreSQL, run by its own worker processes."""

from huey import PostgresHuey, SqliteHuey

from benchmarks.peers.applications import work

path = work.sqlite_file()
huey = SqliteHuey(filename=path, fsync=True, results=False) if path else PostgresHuey(dsn=work.postgresql_url(), results=False)


@huey.task()
def count() -> None:
    work.count_one()


def prepare() -> None:
    """Nothing: its storage makes its tables."""


def load(number: int) -> None:
    for _ in range(number):
        count()
