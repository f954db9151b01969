"""The servers that tests run against: real ones, started on first use, one of each kind per pytest process."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import postgresql, rabbitmq, valkey

# How long an example takes says something of the machine, and nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
# For an evening: `pytest --hypothesis-profile long tests/integration/test_fuzzed.py`.
settings.register_profile("long", settings.get_profile("any machine"), max_examples=4_000)

# A test that asks for one of these fixtures needs the server, and says so without being told to.
MARK_BY_FIXTURE = {
    "postgres_server": "postgres",
    "own_postgres": "postgres",
    "redis_server": "redis",
    "own_redis": "redis",
    "rabbitmq_server": "rabbitmq",
}


def pytest_configure() -> None:
    """Let children hear signals that are ignored where this process was started: in the background, or with nohup."""
    for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        for fixture, mark in MARK_BY_FIXTURE.items():
            if fixture in fixtures:
                item.add_marker(mark)
        if item.get_closest_marker("rabbitmq"):
            item.add_marker(pytest.mark.xdist_group("rabbitmq"))  # a node is too heavy for one per process
        if long_on := item.get_closest_marker("long_on"):
            chosen: str = item.callspec.id  # type: ignore[attr-defined]
            if not {chosen, *chosen.split("-")}.isdisjoint(long_on.args):
                item.add_marker("long")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgresql.PostgresServer]:
    """PostgreSQL, shared by the tests of this process; `create_database` makes databases on it."""
    with postgresql.running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: postgresql.PostgresServer) -> Iterator[str]:
    """A new, empty PostgreSQL database."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[postgresql.OwnPostgresServer]:
    """A PostgreSQL server for this test alone, which it may stop, kill or freeze (takes two seconds)."""
    with postgresql.running_own() as server:
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'outbox.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A new, empty database: the test runs once on SQLite and once on PostgreSQL."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return str(request.getfixturevalue(fixture))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[valkey.OwnValkeyServer]:
    """A Redis-protocol server, shared by the tests of this process."""
    with valkey.running() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: valkey.OwnValkeyServer) -> str:
    """An empty Redis-protocol broker."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def own_redis() -> Iterator[valkey.OwnValkeyServer]:
    """A durable Redis-protocol server for this test alone, which it may stop, kill, freeze or flush."""
    with valkey.running(durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[rabbitmq.RabbitServer]:
    """RabbitMQ, shared by the tests of this process (takes some ten seconds to start)."""
    try:
        with rabbitmq.running() as server:
            yield server
    except rabbitmq.NotInstalled as missing:
        pytest.skip(str(missing))


@pytest.fixture
def rabbitmq_url(rabbitmq_server: rabbitmq.RabbitServer) -> Iterator[str]:
    """An empty RabbitMQ virtual host."""
    with rabbitmq_server.virtual_host() as url:
        yield url
