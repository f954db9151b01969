"""Bringing a database to this release's schema, and telling which schema it has. Alembic keeps the version."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, inspect, text

from outbox import checkpoints
from outbox.errors import SchemaError
from outbox.store.sqlstore import SQLStore

_LOCK = 0x0074_B0C5
"""Advisory lock of PostgreSQL: two upgrades at once run one after the other. SQLite's write lock does the same."""


_alembic = Lock()
"""Alembic hands its context to the migrations through a module's globals: one database at a time in this process."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revision a database has (``None``: no tables) and the one this release wants."""

    current: str | None
    wanted: str
    known: bool = True

    @property
    def is_current(self) -> bool:
        """Whether the library can work on the database."""
        return self.current == self.wanted

    def require_current(self, table: str) -> None:
        """Raise :class:`~outbox.errors.SchemaError` with what to do unless the schema is current."""
        if not self.known:
            raise SchemaError(
                f"{table!r} has schema {self.current}, of a newer release than this one ({self.wanted}): upgrade celery-outbox"
            )
        if not self.is_current:
            have = "no tables yet" if self.current is None else f"schema {self.current}"
            raise SchemaError(f"{table!r} has {have} where {self.wanted} is wanted: run `outbox db upgrade`")


def upgrade(store: SQLStore, revision: str | None = None) -> SchemaState:
    """Bring the database to this release's schema, in one transaction; any number of processes may call it at once.

    ``revision`` goes no further than that one, for migration tools that keep their own count; where it was reached before,
    nothing is done.

    Raises :class:`~outbox.errors.SchemaError` when a newer release has been at work.
    """
    with store.connection_for_schema() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        state = _state(store, connection)
        if state.is_current:
            return state
        if not state.known:
            state.require_current(store.tables.messages.name)
        config = _config()
        config.attributes.update(
            connection=connection, version_table=store.tables.version_table, table_name=store.tables.messages.name
        )
        with _alembic:
            command.upgrade(config, revision or "head")
        upgraded = _state(store, connection)
        checkpoints.reach("upgrade", "before_commit")
    checkpoints.reach("upgrade", "committed")
    return upgraded


def state(store: SQLStore) -> SchemaState:
    """The schema that the database has now."""
    with store.connection_for_schema(read_only=True) as connection:
        return _state(store, connection)


def _state(store: SQLStore, connection: Connection) -> SchemaState:
    script = ScriptDirectory.from_config(_config())
    wanted = script.get_current_head()
    if wanted is None:
        raise SchemaError("this installation of celery-outbox carries no schema revisions: reinstall it")
    if not inspect(connection).has_table(store.tables.version_table):
        return SchemaState(None, wanted)
    context = MigrationContext.configure(connection, opts={"version_table": store.tables.version_table})
    current = context.get_current_revision()
    return SchemaState(current, wanted, known=current is None or _is_known(script, current))


def _is_known(script: ScriptDirectory, revision: str) -> bool:
    try:
        return script.get_revision(revision) is not None
    except CommandError:
        return False


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
