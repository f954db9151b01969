"""Enqueueing on Django's own connection, within the ``transaction.atomic`` block that is open there."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from django.db import Error, transaction
from sqlalchemy import Dialect, Executable
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from outbox import dbapi
from outbox.errors import TransactionError
from outbox.integrations.django import database

# Django rewrites the placeholders for SQLite itself.
_DIALECTS: Mapping[str, Dialect] = {"sqlite": SQLiteDialect_pysqlite(paramstyle="pyformat"), "postgresql": dbapi.POSTGRESQL}


def is_open(alias: str) -> bool:
    """Whether what is written through the alias now is committed later: in an ``atomic`` block, or with ``AUTOCOMMIT`` off."""
    wrapper = database.wrapper_of(alias)
    return bool(wrapper.in_atomic_block or not wrapper.get_autocommit())


class DjangoTransaction(dbapi.DriverTransaction):
    """The open transaction of a database alias in this thread.

    The statements go through Django's cursor: its query log, ``assertNumQueries`` and instrumentation see them. Raises
    :class:`~outbox.errors.TransactionError` where the transaction can only be rolled back.
    """

    def __init__(self, alias: str) -> None:
        wrapper = database.wrapper_of(alias)
        if wrapper.needs_rollback:
            raise TransactionError("the atomic block has failed already: let it roll back before you enqueue")
        super().__init__(_DIALECTS[wrapper.vendor], wrapper.cursor, Error, partial(_is_lost, wrapper))
        self._wrapper = wrapper

    def execute(self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dbapi.Answer:
        """As Django's own models do it: where the statement fails, the block can only be rolled back."""
        with transaction.mark_for_rollback_on_error(using=self._wrapper.alias):
            return super().execute(statement, parameters)

    def after_commit(self, call: Callable[[], object]) -> None:
        """Run ``call`` after the commit of the outermost block. With ``AUTOCOMMIT`` off nobody tells of commits."""

        def wake_up() -> None:  # a function: Django logs its name when it fails
            call()

        if self._wrapper.in_atomic_block:
            transaction.on_commit(wake_up, using=self._wrapper.alias, robust=True)


def _is_lost(wrapper: Any) -> bool:
    return bool(getattr(wrapper.connection, "closed", False))
