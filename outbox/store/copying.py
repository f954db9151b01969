"""Copying a whole outbox into another database, such as from SQLite to PostgreSQL: every row as it is, ``seq`` and ids kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, func, select, text, tuple_

from outbox.errors import OperationRefused
from outbox.lifecycle import Status
from outbox.store import migrating
from outbox.store.schema import Tables, status_in
from outbox.store.sqlstore import SQLStore

OnProgress = Callable[[str, int, int], None]
"""Called with a table's name, how many of its rows are there by now, and how many there are in all."""

_IN_FLIGHT = (Status.DISPATCHED, Status.SENDING)


def copy(
    source: SQLStore, target: SQLStore, *, batch_size: int, even_if_live: bool = False, on_progress: OnProgress
) -> Mapping[str, int]:
    """Copy every table; returns the rows of each. Run it again after an interruption: what is there already stays.

    Nobody can write to the source meanwhile. The target's tables are made where they are missing. A batch is one transaction,
    and is read back.

    :param even_if_live: copy messages that are dispatched or being sent, too: what becomes of them is recorded in the source
        only, if anywhere, and the target will send them again.
    :raises outbox.errors.OperationRefused: messages are in flight, or the target has rows that the source has not.
    :raises outbox.errors.SchemaError: the source has not this release's schema.
    """
    if source.engine.url == target.engine.url:
        raise OperationRefused("source and target are the same database")
    migrating.state(source).require_current(source.tables.messages.name)
    migrating.upgrade(target)
    with source.transaction() as tx:
        _hold(tx.connection, source.tables)
        if not even_if_live:
            _refuse_in_flight(tx.connection, source.tables.messages)
        pairs = list(zip(_each(source.tables), _each(target.tables), strict=True))
        counts = {table.name: _count(tx.connection, table) for table, _ in pairs}
        for table, there in pairs:
            copied = 0
            for rows in _batches(tx.connection, table, batch_size):
                _write(target, there, rows)
                copied += len(rows)
                on_progress(table.name, copied, counts[table.name])
        with target.transaction() as done:
            for table, there in pairs:
                _verify(done.connection, there, counts[table.name])
                _go_on_after(done.connection, there)
    return counts


def _each(tables: Tables) -> Sequence[Table]:
    return tables.metadata.sorted_tables


def _hold(connection: Connection, tables: Tables) -> None:
    """Keep writers away to the end of the transaction; SQLite's began with its write lock."""
    if connection.dialect.name == "postgresql":
        names = ", ".join(connection.dialect.identifier_preparer.format_table(table) for table in _each(tables))
        connection.execute(text(f"lock table {names} in share mode"))


def _refuse_in_flight(connection: Connection, messages: Table) -> None:
    in_flight = connection.scalar(select(func.count()).select_from(messages).where(status_in(messages, _IN_FLIGHT)))
    if in_flight:
        raise OperationRefused(
            f"{in_flight:,} messages are dispatched or being sent: stop the relay, let the workers finish, and stop them;"
            " or copy them all the same, and have them sent again"
        )


def _batches(connection: Connection, table: Table, size: int) -> Iterator[Sequence[Row[Any]]]:
    """The rows in the order of their key, ``size`` at a time: no result is larger, and none is skipped for another."""
    key = list(table.primary_key)
    in_order = select(table).order_by(*key).limit(size)
    rows = connection.execute(in_order).all()
    while rows:
        yield rows
        last = rows[-1]._mapping
        rows = connection.execute(in_order.where(tuple_(*key) > tuple_(*(last[column] for column in key)))).all()


def _write(target: SQLStore, table: Table, rows: Sequence[Row[Any]]) -> None:
    with target.transaction() as tx:
        insert = target.sql.dialect.insert(table).on_conflict_do_nothing()
        tx.connection.execute(insert, [dict(row._mapping) for row in rows])
        found = tx.connection.execute(select(table).where(_is_one_of(table, rows))).all()
        if {tuple(row) for row in found} != {tuple(row) for row in rows}:
            raise OperationRefused(
                f"the target's {table.name} has other rows than the source: the target is an outbox in use already, or the"
                " source has changed since they were copied; name an empty database"
            )


def _is_one_of(table: Table, rows: Sequence[Row[Any]]) -> ColumnElement[bool]:
    """By their keys one by one: a range of texts is another in another database, whose collation differs."""
    key = list(table.primary_key)
    if len(key) == 1:
        return key[0].in_([row._mapping[key[0].name] for row in rows])
    return tuple_(*key).in_([tuple(row._mapping[column.name] for column in key) for row in rows])


def _verify(connection: Connection, table: Table, wanted: int) -> None:
    found = _count(connection, table)
    if found != wanted:
        raise OperationRefused(f"the target's {table.name} has {found:,} rows where the source has {wanted:,}")


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


def _go_on_after(connection: Connection, table: Table) -> None:
    """New rows get numbers after the copied ones; SQLite sees to that by itself."""
    if connection.dialect.name != "postgresql" or "seq" not in table.c:
        return
    highest = connection.scalar(select(func.max(table.c.seq)))
    if highest is not None and list(table.primary_key) == [table.c.seq]:
        sequence = func.pg_get_serial_sequence(connection.dialect.identifier_preparer.format_table(table), "seq")
        connection.execute(select(func.setval(sequence, highest)))
