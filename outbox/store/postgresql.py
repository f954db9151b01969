"""PostgreSQL: writers side by side, so rows are locked with ``skip locked`` and ordering keys with advisory locks."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    ScalarSelect,
    Select,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    column,
    create_engine,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.engine import URL
from sqlalchemy.types import TypeEngine

from outbox.store.sql import RECORDS, Dialect

FROZEN_TRANSACTION_MS = 30_000
"""A process frozen inside a transaction gives up its locks after this long."""

PATIENCE: Mapping[str, int] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""What libpq is told: a host that is gone without a word is noticed within half a minute. By the system's defaults a settle
would wait for it for hours, and a process with it."""


def _epoch_ms(moment: ColumnElement[Any]) -> ScalarSelect[int]:
    """As a scalar subquery a volatile clock is read once for each place it stands in, and its value can bound an index scan."""
    return select(cast(func.extract("epoch", moment) * literal_column("1000"), BigInteger)).scalar_subquery()


_NOW = _epoch_ms(func.clock_timestamp())
_BEGAN = _epoch_ms(func.statement_timestamp())

_KEYS = (
    func.unnest(bindparam("keys", type_=ARRAY(Text))).table_valued(column("key", Text), name="ordering_keys").render_derived()
)
_LOCK_KEYS = select(_KEYS.c.key).where(func.pg_try_advisory_xact_lock(func.hashtextextended(_KEYS.c.key, literal_column("0"))))


class PostgreSQLDialect(Dialect):
    """The differences of PostgreSQL ≥ 13."""

    locks_rows = True

    def now(self) -> ColumnElement[int] | None:
        return _NOW

    def began(self) -> ColumnElement[int] | None:
        return _BEGAN

    def records(self, name: str, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
        return (
            func.jsonb_to_recordset(cast(bindparam(RECORDS, type_=Text), JSONB))
            .table_valued(*(column(key, kind) for key, kind in columns.items()), name=name)
            .render_derived(with_types=True)
        )

    def named(self, column: ColumnElement[Any], key: ColumnElement[Any]) -> ColumnElement[bool]:
        """As an array too: joined alone, a young table that nobody has analysed was read from end to end for each batch."""
        return and_(column == key, self.among(column, select(self.records("named", {key.name: key.type}).c[key.name])))

    def among(self, column: ColumnElement[Any], keys: Select[Any]) -> ColumnElement[bool]:
        return column == any_(func.array(keys.scalar_subquery(), type_=ARRAY(column.type)))

    def for_each(self, records: FromClause, keys: Select[Any]) -> Select[Any]:
        return select(func.unnest(func.array(keys.correlate(records).scalar_subquery()))).select_from(records)

    def insert(self, table: Table) -> Any:
        return insert(table)

    def lock_keys(self, connection: Connection, keys: Sequence[str]) -> set[str]:
        return set(connection.execute(_LOCK_KEYS, {"keys": sorted(keys)}).scalars())


def engine_for(url: URL) -> Engine:
    """An engine at read committed, whose frozen transactions and dead connections end; what the URL says itself wins."""
    own = url.normalized_query
    options = [f"-c idle_in_transaction_session_timeout={FROZEN_TRANSACTION_MS}", *own.get("options", ())]
    patience = {name: value for name, value in PATIENCE.items() if name not in own}
    return create_engine(url, isolation_level="READ COMMITTED", connect_args={"options": " ".join(options), **patience})
