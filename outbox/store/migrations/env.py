"""Run by Alembic: migrates through the connection, and under the table names, that :mod:`outbox.store.migrating` hands over."""

from typing import Any

from alembic import context

from outbox import checkpoints


def applied(*_: Any, **__: Any) -> None:
    """A revision is made and on record, and not committed: all of an upgrade is one transaction."""
    checkpoints.reach("upgrade", "revision")


attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes["version_table"],
    table_name=attributes["table_name"],
    on_version_apply=applied,
)
with context.begin_transaction():
    context.run_migrations()
