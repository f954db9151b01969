"""What the SQL of both databases is written in: the dialect's few differences, and the transaction that runs a verb."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    CursorResult,
    Executable,
    FromClause,
    Row,
    Select,
    Table,
    bindparam,
    case,
    select,
)
from sqlalchemy.types import TypeEngine

from outbox.clock import Clock
from outbox.lifecycle import Status
from outbox.message import Message
from outbox.store.schema import Tables

RECORDS = "records"
NOW = "now"


class Dialect(ABC):
    """What SQLite and PostgreSQL spell differently."""

    locks_rows: bool
    """Whether writers run side by side, so that rows and ordering keys must be locked one by one."""

    @abstractmethod
    def now(self) -> ColumnElement[int] | None:
        """The database's own clock in epoch milliseconds, or ``None`` where the host's clock is bound instead."""

    @abstractmethod
    def began(self) -> ColumnElement[int] | None:
        """The moment at which the statement began, the same wherever it stands in one; or ``None`` as for :meth:`now`."""

    @abstractmethod
    def records(self, name: str, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        """A table made of the JSON array that is bound as ``records``: one statement text however many rows travel in it."""

    @abstractmethod
    def named(self, column: ColumnElement[Any], key: ColumnElement[Any]) -> ColumnElement[bool]:
        """That ``column``, which has an index, is the ``key`` of a record: found by the index, whatever a planner believes."""

    @abstractmethod
    def among(self, column: ColumnElement[Any], keys: Select[Any]) -> ColumnElement[bool]:
        """That ``column``, which has an index, is one of ``keys``, a few: found by the index as well."""

    @abstractmethod
    def for_each(self, records: FromClause, keys: Select[Any]) -> Select[Any]:
        """The ``keys`` that are selected for one record, for all of them: looked up record by record as well."""

    @abstractmethod
    def insert(self, table: Table) -> Any:
        """The dialect's insert, which both spell with ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""

    @abstractmethod
    def lock_keys(self, connection: Connection, keys: Sequence[str]) -> set[str]:
        """The ordering keys that this transaction holds to its end; keys that another one holds are left out."""


@dataclass(frozen=True, eq=False)
class Sql:
    """One outbox's tables in one dialect. Statements are built once from it and cached by its identity."""

    tables: Tables
    dialect: Dialect
    clock: Clock | None

    @property
    def now(self) -> ColumnElement[int]:
        """The present moment inside a statement. An injected clock beats the database's."""
        return self._bound_or(self.dialect.now())

    @property
    def began(self) -> ColumnElement[int]:
        """The moment at which the statement began: for times that must agree with each other."""
        return self._bound_or(self.dialect.began())

    @property
    def binds_now(self) -> bool:
        """Whether statements that use :attr:`now` need it as a parameter."""
        return self.clock is not None or self.dialect.now() is None

    def _bound_or(self, own: ColumnElement[int] | None) -> ColumnElement[int]:
        return bindparam(NOW, type_=BigInteger) if self.clock is not None or own is None else own


@dataclass(frozen=True)
class Transaction:
    """An open transaction of the store's own, with the moment it was opened for databases that bind the time."""

    connection: Connection
    sql: Sql
    now_ms: int
    _parameters: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parameters", {NOW: self.now_ms} if self.sql.binds_now else {})

    def moment(self) -> int:
        """The present moment (epoch milliseconds), for decisions that are not made in SQL; one statement on PostgreSQL."""
        return self.now_ms if self.sql.binds_now else int(self.connection.execute(select(self.sql.now)).scalar_one())

    def execute(self, statement: Executable, **parameters: Any) -> CursorResult[Any]:
        """Run a statement with its parameters and, where it is bound, the time."""
        return self.connection.execute(statement, {**self._parameters, **parameters})

    def execute_on(self, statement: Executable, records: Iterable[Mapping[str, Any]], **parameters: Any) -> CursorResult[Any]:
        """Run a statement over ``records``, which it reads through :meth:`Dialect.records`."""
        return self.execute(statement, **{RECORDS: json.dumps(list(records))}, **parameters)


def clamp(value: ColumnElement[Any], low: Any, high: Any) -> ColumnElement[Any]:
    """``value``, but not below ``low`` nor above ``high``; spelled so that both databases read it."""
    return case((value < low, low), (value > high, high), else_=value)


def columns_of_message(messages: FromClause) -> list[ColumnElement[Any]]:
    """What :func:`to_message` reads."""
    return [messages.c[column] for column in _COLUMNS]


def to_message(row: Row[Any]) -> Message:
    """A row of :func:`columns_of_message` as a :class:`~outbox.message.Message`.

    SQLite's lock is held meanwhile: the constructor of a frozen dataclass, which sets each field by a call, takes five times as
    long.
    """
    message = object.__new__(Message)
    values = vars(message)
    values.update(zip(_FIELDS, row, strict=True))
    values["status"] = Status(values["status"])
    values["outcome_unknown"] = bool(values["outcome_unknown"])
    return message


_FIELDS = [field.name for field in fields(Message)]
_COLUMNS = [name.removesuffix("_json") for name in _FIELDS]
