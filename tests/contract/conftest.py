"""Stores on an empty outbox, as many as a test needs: one stands for one process.

The schema is made once for each kind of database. A test gets a copy of the SQLite file, or the PostgreSQL database with its
tables emptied; both are a tenth of the price of a new database. The usual stores live as long as the session, because a
store compiles each of its statements once.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from outbox.store import migrating
from outbox.store.schema import define
from outbox.store.sqlstore import SQLStore, open_store
from outbox.store.write_queue import SUFFIX
from outbox.testing import FakeClock
from tests.contract.steps import NOW
from tests.servers import postgresql

OpenStore = Callable[..., SQLStore]


@pytest.fixture(scope="session")
def session_clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def clock(session_clock: FakeClock) -> FakeClock:
    session_clock.now = NOW
    return session_clock


@pytest.fixture
def open_on() -> Iterator[OpenStore]:
    """`open_store`, with the connections closed when the test ends."""
    opened: list[SQLStore] = []

    def open_and_remember(url: str | None, **options: object) -> SQLStore:
        opened.append(open_store(url, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_and_remember
    for store in opened:
        store.engine.dispose()


@pytest.fixture(scope="session")
def known_stores() -> dict[tuple[str, str], SQLStore]:
    """Stores by their database and the process that they stand for."""
    return {}


@pytest.fixture
def open_known(known_stores: dict[tuple[str, str], SQLStore]) -> Iterator[OpenStore]:
    """A store of the session, with its connections closed when the test ends."""
    used: list[SQLStore] = []

    def open_once(url: str, process: str, clock: FakeClock | None) -> SQLStore:
        store = known_stores.setdefault((url, process), open_store(url, clock=clock))
        used.append(store)
        return store

    yield open_once
    for store in used:
        store.engine.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema and nothing else."""
    path = tmp_path_factory.mktemp("contract") / "template.db"
    _upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_outbox(postgres_server: postgresql.PostgresServer) -> Iterator[str]:
    """A PostgreSQL database with the schema, for whoever empties it first."""
    with postgres_server.database() as url:
        _upgrade(url)
        yield url


@pytest.fixture
def sqlite_outbox_url(sqlite_template: Path) -> str:
    """An empty outbox on SQLite."""
    path = sqlite_template.with_name("outbox.db")
    for left_behind in path.parent.glob("outbox.db*"):
        if not left_behind.name.endswith(SUFFIX):  # what an earlier test has left open would queue at a file that is gone
            left_behind.unlink()
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_outbox_url(postgres_outbox: str) -> str:
    """An empty outbox on PostgreSQL."""
    tables = ", ".join(define().metadata.tables)
    with psycopg.connect(postgresql.libpq_url(make_url(postgres_outbox)), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        connection.execute(f"truncate {tables} restart identity")
    return postgres_outbox


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def outbox_url(request: pytest.FixtureRequest) -> str:
    """An empty outbox: the test runs once on SQLite and once on PostgreSQL."""
    return str(request.getfixturevalue({"sqlite": "sqlite_outbox_url", "postgresql": "postgres_outbox_url"}[request.param]))


@pytest.fixture
def store(outbox_url: str, open_known: OpenStore, clock: FakeClock) -> SQLStore:
    """An empty outbox that lives by the test's clock."""
    return open_known(outbox_url, "one", clock)


@pytest.fixture
def other_store(outbox_url: str, store: SQLStore, open_known: OpenStore, clock: FakeClock) -> SQLStore:
    """The same outbox, seen by another process."""
    return open_known(outbox_url, "another", clock)


@pytest.fixture
def live_store(outbox_url: str, open_known: OpenStore) -> SQLStore:
    """An empty outbox that lives by the database's own clock, as in production."""
    return open_known(outbox_url, "live", None)


@pytest.fixture
def postgres_store(postgres_outbox_url: str, open_known: OpenStore, clock: FakeClock) -> SQLStore:
    """For what SQLite's single writer rules out: rows that two transactions want at the same moment."""
    return open_known(postgres_outbox_url, "one", clock)


def _upgrade(url: str) -> None:
    store = open_store(url)
    migrating.upgrade(store)
    store.engine.dispose()
