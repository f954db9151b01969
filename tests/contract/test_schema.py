"""The schema: what the migrations make is what the models say, and a database of another release is told apart."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from outbox.errors import SchemaError
from outbox.lifecycle import Status
from outbox.message import Claim
from outbox.store import migrating
from outbox.store.records import GateKind, MessageFilter
from outbox.store.schema import define
from outbox.store.sqlstore import SQLStore
from outbox.store.tallying import LATE_COMMIT_MS
from outbox.testing import FakeClock
from tests.contract.conftest import OpenStore
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DELIVERED,
    PARKED,
    RETRY,
    claim,
    enqueue,
    enqueue_named,
    ids,
    new_row,
    settle,
    take,
)
from tests.servers import postgresql


@pytest.fixture
def bare(database_url: str, open_on: OpenStore) -> SQLStore:
    """A store on a database that nobody has upgraded."""
    return open_on(database_url)


def versions(store: SQLStore) -> list[str]:
    with store.transaction(read_only=True) as tx:
        return list(tx.connection.execute(text(f"select version_num from {store.tables.version_table}")).scalars())


CATALOGUE = {
    "sqlite": "select sql from sqlite_master where sql is not null and tbl_name like :tables",
    "postgresql": """
        select indexdef from pg_indexes where tablename like :tables
        union all select concat_ws(' ', table_name, column_name, data_type, character_maximum_length, is_nullable,
            column_default, is_identity) from information_schema.columns where table_name like :tables
    """,
}


def definitions(store: SQLStore, table: str) -> list[str]:
    """Every column and index of the outbox ``table`` and its companions as the database spells them, predicates included."""
    catalogue = text(CATALOGUE[store.engine.dialect.name])
    with store.transaction(read_only=True) as tx:
        found = tx.connection.execute(catalogue, {"tables": f"{table}%"}).scalars().all()
    return sorted(re.sub(r"\s+", " ", each.replace(table, "outbox")).lower() for each in found if "_version" not in each)


@pytest.mark.proves("T24")
def test_the_migrations_make_what_the_models_say(bare: SQLStore) -> None:
    migrating.upgrade(bare)
    with bare.transaction() as tx:
        options = {"version_table": bare.tables.version_table, "compare_type": True}
        context = MigrationContext.configure(tx.connection, opts=options)
        assert compare_metadata(context, bare.tables.metadata) == []


def test_the_migrations_spell_it_as_the_models_do_defaults_and_index_predicates_included(bare: SQLStore) -> None:
    migrating.upgrade(bare)
    with bare.transaction() as tx:
        define("from_models").metadata.create_all(tx.connection)
    migrated = definitions(bare, "message_outbox")
    assert migrated == definitions(bare, "from_models")
    assert sum("create index" in each and " where " in each for each in migrated) >= 10


def test_an_upgrade_brings_a_bare_database_to_the_wanted_schema(bare: SQLStore) -> None:
    before = migrating.state(bare)
    assert (before.current, before.is_current, before.known) == (None, False, True)
    after = migrating.upgrade(bare)
    assert after == migrating.state(bare)
    assert after.is_current
    after.require_current("message_outbox")


def test_an_upgrade_of_what_is_current_changes_nothing(bare: SQLStore) -> None:
    migrating.upgrade(bare)
    enqueue_named(bare, "kept")
    assert migrating.upgrade(bare).is_current
    assert bare.find("kept") is not None
    assert len(versions(bare)) == 1


def test_processes_that_upgrade_at_once_do_not_get_in_each_others_way(bare: SQLStore, database_url: str) -> None:
    upgrade = (
        "import sys; from outbox.store.sqlstore import open_store; from outbox.store import migrating;"
        "sys.exit(not migrating.upgrade(open_store(sys.argv[1])).is_current)"
    )
    command = [sys.executable, "-c", upgrade, database_url]
    root = Path(__file__).parents[2]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert len(versions(bare)) == 1
    assert enqueue(bare, new_row())


def test_one_process_upgrades_several_databases_at_once(
    sqlite_url: str, postgres_server: postgresql.PostgresServer, open_on: OpenStore, tmp_path: Path
) -> None:
    with postgres_server.database() as one, postgres_server.database() as two:
        stores = [open_on(url) for url in (sqlite_url, one, two, f"sqlite:///{tmp_path / 'other.db'}")]
        with ThreadPoolExecutor(len(stores)) as pool:
            states = list(pool.map(migrating.upgrade, stores))
        assert all(state.is_current for state in states)
        assert all(enqueue(store, new_row()) for store in stores)
        for store in stores:
            store.engine.dispose()


@pytest.mark.proves("T24")
def test_a_database_that_was_not_upgraded_says_what_to_do(bare: SQLStore) -> None:
    with pytest.raises(SchemaError, match="outbox db upgrade"):
        migrating.state(bare).require_current("message_outbox")
    for verb in (lambda: bare.pending([CHANNEL]), bare.stats, lambda: bare.expire(1), lambda: claim(bare)):
        with pytest.raises(SchemaError, match="outbox db upgrade"):
            verb()


def test_a_schema_of_a_newer_release_is_left_alone_and_says_what_to_do(bare: SQLStore) -> None:
    migrating.upgrade(bare)
    with bare.transaction() as tx:
        tx.connection.execute(text(f"update {bare.tables.version_table} set version_num = '9999'"))
    state = migrating.state(bare)
    assert (state.current, state.known, state.is_current) == ("9999", False, False)
    for check in (lambda: state.require_current("message_outbox"), lambda: migrating.upgrade(bare)):
        with pytest.raises(SchemaError, match="upgrade celery-outbox"):
            check()
    assert versions(bare) == ["9999"]


def test_an_upgrade_that_fails_half_way_leaves_nothing_behind(bare: SQLStore) -> None:
    with bare.transaction() as tx:
        tx.connection.execute(text("create table message_outbox_gate (somebody_elses integer)"))
    with pytest.raises(Exception, match="message_outbox_gate"):
        migrating.upgrade(bare)
    with bare.transaction(read_only=True) as tx:
        assert inspect(tx.connection).get_table_names() == ["message_outbox_gate"]


def test_an_applications_own_alembic_version_is_not_touched(bare: SQLStore) -> None:
    with bare.transaction() as tx:
        tx.connection.execute(text("create table alembic_version (version_num varchar(32))"))
        tx.connection.execute(text("insert into alembic_version values ('theirs')"))
    migrating.upgrade(bare)
    with bare.transaction(read_only=True) as tx:
        assert tx.connection.execute(text("select version_num from alembic_version")).scalar_one() == "theirs"


def test_an_outbox_under_another_name_works_from_end_to_end(database_url: str, open_on: OpenStore) -> None:
    store = open_on(database_url, table_name="jobs")
    migrating.upgrade(store)
    assert migrating.state(store).is_current
    enqueue_named(store, "a", "b", ordering_key="chat", ttl_ms=3_600_000)
    enqueue_named(store, "c")
    of_the_first, _, of_the_third = claim(store)
    first, third = take(store, [of_the_first, of_the_third])
    settle(store, first, RETRY)
    settle(store, third, DELIVERED)
    assert claim(store) == []
    store.close(CHANNEL, "", GateKind.PAUSE, for_ms=None, reason="test")
    assert store.cancel(MessageFilter(ids=["a"]), 10, actor=None, reason=None).changed == ["a"]
    (second,) = take(store, [Claim("b", 0, "chat")])
    settle(store, second, DEAD)
    assert [line.outcome for line in store.attempts("b")] == ["ended"]
    assert [operation.action for operation in store.operations("a")] == ["cancel"]
    assert (len(store.gates()), store.prune(CHANNEL, Status.DELIVERED, -1, 10)) == (1, 1)
    assert ids(store.list_messages(MessageFilter(), 10)) == ["b", "a"]
    assert store.violations(10) == []
    with store.transaction(read_only=True) as tx:
        tables = inspect(tx.connection).get_table_names()
    assert {name.split("_")[0] for name in tables if name != "sqlite_sequence"} == {"jobs"}


EARLIER = migrating.REVISIONS[:-1]


def make_earlier(store: SQLStore, revision: str) -> None:
    """The database as an earlier release made it: later ones must leave that revision as it was."""
    assert migrating.upgrade(store, revision).current == revision


def test_every_revision_is_known_by_its_name() -> None:
    """Which schema a database has is told without Alembic."""
    revisions = ScriptDirectory(str(Path(migrating.__file__).parent / "migrations")).walk_revisions()
    assert [revision.revision for revision in revisions] == [*reversed(migrating.REVISIONS)]


@pytest.mark.proves("T24")
@pytest.mark.parametrize("revision", EARLIER)
def test_a_database_of_an_earlier_release_is_upgraded_with_its_rows_and_goes_on(
    database_url: str, open_on: OpenStore, clock: FakeClock, revision: str
) -> None:
    store = open_on(database_url, clock=clock)
    make_earlier(store, revision)
    enqueue_named(store, "delivered", "dead", "parked")
    for message in take(store, claim(store)):
        settle(store, message, {"delivered": DELIVERED, "dead": DEAD, "parked": PARKED}[message.id])
    enqueue_named(store, "waits", ordering_key="chat")
    before = store.list_messages(MessageFilter(), 10)
    assert migrating.state(store).current == revision

    assert migrating.upgrade(store).is_current

    assert store.list_messages(MessageFilter(), 10) == before
    settle(store, take(store, claim(store))[0], DELIVERED)
    clock.advance(LATE_COMMIT_MS + 1)
    assert store.tally(10) == 3
    assert store.violations(10) == []


@pytest.mark.proves("T24")
@pytest.mark.parametrize("revision", EARLIER)
def test_what_an_earlier_release_works_on_stays_as_it_is_so_that_its_processes_may_run_on(
    bare: SQLStore, revision: str
) -> None:
    make_earlier(bare, revision)
    theirs = definitions(bare, "message_outbox")
    migrating.upgrade(bare)
    assert set(theirs) < set(definitions(bare, "message_outbox"))


@pytest.mark.proves("T24")
@pytest.mark.parametrize("revision", EARLIER)
def test_this_release_delivers_although_the_database_is_not_upgraded_yet(bare: SQLStore, revision: str) -> None:
    make_earlier(bare, revision)
    enqueue_named(bare, "m", ordering_key="chat")
    settle(bare, take(bare, claim(bare))[0], DELIVERED)
    assert migrating.state(bare).current == revision
    assert not migrating.state(bare).is_current


def test_this_release_says_what_to_do_for_what_the_database_does_not_have_yet(bare: SQLStore) -> None:
    make_earlier(bare, "0001")
    with pytest.raises(SchemaError, match="outbox db upgrade"):
        bare.tally(10)
