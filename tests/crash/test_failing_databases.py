"""The database as a whole fails for a while: no space, read-only, its backends terminated, its server killed."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import event, make_url, text

from tests.crash import workloads
from tests.crash.conftest import MakeFleet
from tests.crash.copies import Copies
from tests.crash.fleet import Fleet
from tests.crash.history import History
from tests.crash.lives import Life, Stage
from tests.crash.oracle import judge
from tests.servers.postgresql import libpq_url

WORKLOADS = (workloads.letters, workloads.crowd, workloads.refusals, workloads.parking)


@contextmanager
def broken_sqlite(_stage: Stage) -> Iterator[None]:
    """No file of this process may grow: an I/O error, which the system tells from a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def read_only_sqlite(stage: Stage) -> Iterator[None]:
    """Whoever connects opens the file for reading, as on a file system that was mounted so."""
    engines = [outbox.store.engine for outbox in (stage.outbox, stage.stranger)]

    def open_for_reading(_dialect: object, _record: object, arguments: list[str], options: dict[str, object]) -> None:
        arguments[0] = f"file:{arguments[0]}?mode=ro"
        options["uri"] = True

    for engine in engines:
        engine.dispose()
        event.listen(engine, "do_connect", open_for_reading)
    yield
    for engine in engines:
        event.remove(engine, "do_connect", open_for_reading)
        engine.dispose()


@contextmanager
def full_postgresql(stage: Stage) -> Iterator[None]:
    """What the server says when it cannot extend a file."""
    with stage.outbox.store.transaction() as tx:
        tx.connection.execute(
            text(
                "create function no_space() returns trigger language plpgsql as $$ begin"
                " raise exception 'could not extend file' using errcode = 'disk_full'; end $$"
            )
        )
        tx.connection.execute(
            text("create trigger no_space before insert or update on message_outbox execute function no_space()")
        )
    yield
    with stage.outbox.store.transaction() as tx:
        tx.connection.execute(text("drop function no_space cascade"))


@contextmanager
def read_only_postgresql(stage: Stage) -> Iterator[None]:
    """As after a fail-over to a replica: the connections are gone, and new ones may only read."""
    url = stage.outbox.store.engine.url
    with psycopg.connect(libpq_url(url), autocommit=True, options="-c default_transaction_read_only=off") as operator:

        def turn(setting: str) -> None:
            operator.execute(f'alter database "{url.database}" set default_transaction_read_only = {setting}')
            operator.execute(TERMINATE)

        turn("on")
        yield
        turn("off")


TERMINATE = (
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
)
TROUBLES = [
    pytest.param("sqlite", broken_sqlite, id="SQLite, I/O error"),
    pytest.param("sqlite", read_only_sqlite, id="SQLite, read-only"),
    pytest.param("postgresql", full_postgresql, id="PostgreSQL, disk full"),
    pytest.param("postgresql", read_only_postgresql, id="PostgreSQL, read-only"),
]


@pytest.mark.parametrize(("stage", "trouble"), TROUBLES, indirect=["stage"])
def test_a_database_that_takes_nothing_for_a_while_stops_the_sends_and_loses_nothing(
    stage: Stage, trouble: Callable[[Stage], "contextmanager[None]"]
) -> None:
    life = Life(stage)

    with trouble(stage):
        life.suffer()
    life.enqueue_stubbornly()
    life.pass_by()

    life.judge()


def terminate_backends(fleet: Fleet) -> None:
    with psycopg.connect(libpq_url(make_url(fleet.settings.database)), autocommit=True) as operator:
        operator.execute(TERMINATE)


def kill_the_server(fleet: Fleet) -> None:
    fleet.server.process.kill()
    fleet.server.process.start()


def restart_the_server(fleet: Fleet) -> None:
    fleet.server.process.stop()
    fleet.server.process.start()


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.parametrize("pool", ["threads", "prefork"])
@pytest.mark.parametrize("fail", [terminate_backends, kill_the_server, restart_the_server])
@pytest.mark.xdist_group("crash databases")
@pytest.mark.proves("T11", "T13")
def test_a_server_that_fails_amid_the_work_loses_nothing_and_leaves_every_second_copy_on_record(
    make_fleet: MakeFleet, pool: str, fail: Callable[[Fleet], None]
) -> None:
    fleet = make_fleet("postgresql", pool, server=True)
    history = History(fleet)

    for workload in WORKLOADS:
        history.commit_and_see_arrive([*workload(), *workloads.entries()])
        fail(fleet)
        fleet.outbox.store.engine.dispose()
    fleet.rest(history.ids())

    assert judge(history.evidence(), Copies.ON_RECORD).problems == []
