"""Django's migrations, its models, our revisions and ``schema.py`` are four spellings of one schema."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from outbox import Outbox
from outbox.errors import SchemaError
from outbox.store import migrating
from tests.integration.django.conftest import Manage

MIGRATIONS = Path(migrating.__file__).parents[1] / "integrations/django/migrations"
REVISIONS = Path(migrating.__file__).parent / "migrations"

# The app by itself: it needs none of Django's own.
ALONE = {"INSTALLED_APPS": ["outbox.integrations.django"], "MIDDLEWARE": [], "TEMPLATES": [], "ROOT_URLCONF": None}

# Creates Django's own idea of each table beside ours, and prints both: columns, types, nullability and primary key.
SPELL_BOTH = """
from django.apps import apps
from django.db import connection
from sqlalchemy import inspect
from outbox.integrations.django import outbox

models = list(apps.get_app_config("outbox").get_models())
names = {model: model._meta.db_table for model in models}
for model in models:
    model._meta.db_table = f"django_{names[model]}"
    with connection.schema_editor() as editor:
        editor.create_model(model)
seen = inspect(outbox().store.engine)
for model in models:
    for prefix in ("", "django_"):
        table = prefix + names[model]
        columns = sorted(f"{c['name']} {c['type']} {c['nullable']}".lower() for c in seen.get_columns(table))
        print(prefix or "our", names[model], columns, seen.get_pk_constraint(table)["constrained_columns"], sep="|")
"""


@pytest.fixture
def manage(database_url: str) -> Manage:
    """A project with nothing but the outbox, on a new, empty database: SQLite, then PostgreSQL."""
    return Manage(database_url, ALONE)


def is_current(url: str) -> bool:
    outbox = Outbox(url)
    try:
        outbox.check_schema()
    except SchemaError:
        return False
    finally:
        outbox.close()
    return True


def test_no_migration_is_missing(manage: Manage) -> None:
    assert "No changes detected" in manage("makemigrations", "--check", "--dry-run")


def test_the_migrations_make_what_the_schema_says(manage: Manage) -> None:
    manage("migrate")
    outbox = Outbox(manage.database_url)
    outbox.check_schema()
    with outbox.store.engine.connect() as connection:
        ours = outbox.store.tables.messages.name
        options = {
            "version_table": outbox.store.tables.version_table,
            "compare_type": True,
            "include_name": lambda name, kind, _parents: kind != "table" or str(name).startswith(ours),
        }
        assert compare_metadata(MigrationContext.configure(connection, opts=options), outbox.store.tables.metadata) == []
    outbox.close()


@pytest.mark.long_on("sqlite")
def test_djangos_models_have_the_columns_of_the_tables(manage: Manage) -> None:
    manage("migrate")
    spelt = [line.split("|") for line in manage.shell(SPELL_BOTH).splitlines() if "|" in line]
    ours = {table: rest for prefix, table, *rest in spelt if prefix == "our"}
    djangos = {table: rest for prefix, table, *rest in spelt if prefix != "our"}
    outbox = Outbox(manage.database_url)
    every_table = set(outbox.store.tables.metadata.tables)
    outbox.close()
    assert set(ours) == every_table
    assert djangos == ours


def test_every_revision_of_the_schema_has_its_migration() -> None:
    revisions = {one.revision for one in ScriptDirectory(str(REVISIONS)).walk_revisions()}
    assert {path.name[:4] for path in MIGRATIONS.glob("0*.py")} == revisions


@pytest.mark.proves("T24")
def test_migrate_goes_on_where_outbox_db_upgrade_was_and_the_other_way_round(manage: Manage) -> None:
    outbox = Outbox(manage.database_url)
    migrating.upgrade(outbox.store, "0001")
    with outbox.store.transaction() as tx:
        tx.connection.execute(text("insert into message_outbox_import values ('kept', 'digest', 'imported', null, 0)"))
    assert "outbox.0002_tallies... OK" in manage("migrate")
    outbox.upgrade_schema()
    assert outbox.store.receipts(["kept"])
    outbox.check_schema()
    outbox.close()


@pytest.mark.long_on("sqlite")
def test_migrate_stops_at_the_revision_of_its_migration(manage: Manage) -> None:
    manage("migrate", "outbox", "0001")
    assert not is_current(manage.database_url)
    manage("migrate")
    assert is_current(manage.database_url)


def test_a_failed_migrate_leaves_nothing_behind(manage: Manage) -> None:
    manage.shell(
        "from django.db import connection; connection.cursor().execute('create table message_outbox_gate (id integer)')"
    )
    manage("migrate", "outbox", status=1)
    outbox = Outbox(manage.database_url)
    assert [name for name in inspect(outbox.store.engine).get_table_names() if name.startswith("message_outbox")] == [
        "message_outbox_gate"
    ]
    outbox.close()


@pytest.mark.long_on("sqlite")
def test_the_tables_are_made_under_another_name_where_the_settings_say_so(manage: Manage) -> None:
    renamed = {"OUTBOX": {"TABLE": "shop_outbox"}}
    manage("migrate", **renamed)
    assert "No changes detected" in manage("makemigrations", "--check", "--dry-run", **renamed)
    outbox = Outbox(manage.database_url, table_name="shop_outbox")
    outbox.check_schema()
    outbox.close()


@pytest.mark.long_on("sqlite")
def test_only_the_outboxs_own_database_gets_its_tables(manage: Manage, tmp_path: Path) -> None:
    elsewhere = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "messages.db")}
    settings = {"OUTBOX": {"DATABASE": "messages"}, "DATABASES": {"messages": elsewhere}}
    manage("migrate", **settings)
    assert not is_current(manage.database_url)
    manage("migrate", "--database", "messages", **settings)
    assert is_current(f"sqlite:///{tmp_path / 'messages.db'}")
