"""Bringing a database to this release's schema, and telling which schema it has. Alembic keeps the version."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, column, inspect, select, table, text

from outbox import checkpoints
from outbox.errors import SchemaError
from outbox.store.sqlstore import SQLStore

REVISIONS = ("0001", "0002", "0003")
"""All that are in ``migrations``, in order. Only an upgrade needs Alembic, whose import is a sixth of a process's start."""

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
        _migrate(store, connection, revision or REVISIONS[-1])
        upgraded = _state(store, connection)
        checkpoints.reach("upgrade", "before_commit")
    checkpoints.reach("upgrade", "committed")
    return upgraded


def state(store: SQLStore) -> SchemaState:
    """The schema that the database has now."""
    with store.connection_for_schema(read_only=True) as connection:
        return _state(store, connection)


def _state(store: SQLStore, connection: Connection) -> SchemaState:
    version_table = store.tables.version_table
    if not inspect(connection).has_table(version_table):
        return SchemaState(None, REVISIONS[-1])
    current = connection.scalar(select(column("version_num")).select_from(table(version_table)))
    return SchemaState(current, REVISIONS[-1], known=current is None or current in REVISIONS)


def _migrate(store: SQLStore, connection: Connection, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes.update(
        connection=connection, version_table=store.tables.version_table, table_name=store.tables.messages.name
    )
    with _alembic:
        command.upgrade(config, revision)
