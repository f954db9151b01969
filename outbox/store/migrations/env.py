"""Run by Alembic: migrates through the connection, and under the table names, that :mod:`outbox.store.migrating` hands over."""

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes["version_table"],
    table_name=attributes["table_name"],
)
with context.begin_transaction():
    context.run_migrations()
