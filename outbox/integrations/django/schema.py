"""The migration operation that brings the outbox's tables to a revision of their schema, in Django's own transaction."""

from typing import Any

from django.db import router
from django.db.migrations.operations.base import Operation

from outbox.integrations.django import borrowing, configuration
from outbox.store import migrating


class UpgradeTo(Operation):
    """Run the revisions up to ``revision``, unless ``outbox db upgrade`` has done so already. Forward only.

    The state that Django compares its models with is told beside it, by ``SeparateDatabaseAndState``.
    """

    reversible = False
    reduces_to_sql = False

    def __init__(self, revision: str) -> None:
        self.revision = revision

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Nothing: the models are told beside it."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Upgrade, where this is the outbox's database. Raises :class:`~outbox.errors.SchemaError` for a newer release's."""
        alias, configured = schema_editor.connection.alias, configuration.read()
        if alias != configured.database or not router.allow_migrate(alias, app_label) or schema_editor.collect_sql:
            return
        migrating.upgrade(borrowing.store_on(alias, configured.table), self.revision)

    def describe(self) -> str:
        """For ``migrate --plan``."""
        return f"Bring the outbox's tables to schema {self.revision}"
