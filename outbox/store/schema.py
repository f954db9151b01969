"""The tables, as SQLAlchemy Core. ``metadata`` is what an application's own Alembic includes.

Times are epoch milliseconds, UTC. Flags are 0 or 1, so that the same literal stands in both databases' partial indexes.
Predicates use literal statuses, never bound ones: a planner cannot match a partial index to a parameter.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    and_,
    literal_column,
    text,
)

from outbox.lifecycle import ACTIVE, DUE, EXPIRABLE, Status

DEFAULT_TABLE = "message_outbox"

_Sequence = BigInteger().with_variant(Integer, "sqlite")


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of one outbox; all share the prefix of ``messages``."""

    metadata: MetaData
    messages: Table
    attempts: Table
    operations: Table
    gates: Table
    buckets: Table
    imports: Table
    tallies: Table
    tally_marks: Table

    @property
    def version_table(self) -> str:
        """Name of the table that holds the schema version."""
        return f"{self.messages.name}_version"


def literal(value: str | int) -> ColumnElement[object]:
    """A constant written into the SQL itself."""
    return literal_column(str(value) if isinstance(value, int) else f"'{value}'")


def status_in(messages: FromClause, statuses: Iterable[Status]) -> ColumnElement[bool]:
    """``status in ('…', '…')`` with literals in a fixed order, so that index and query spell it alike."""
    return messages.c.status.in_([literal(status) for status in sorted(statuses)])


def claimable(messages: FromClause) -> ColumnElement[bool]:
    """The rows of the due index: in a due status, with their defaults stamped, and not known to wait behind another."""
    return and_(status_in(messages, DUE), messages.c.blocked == literal(0), messages.c.stamped == literal(1))


@lru_cache(maxsize=64)
def define(table_name: str = DEFAULT_TABLE) -> Tables:
    """The tables under ``table_name`` and its derived names: defined once, so that SQLAlchemy knows their statements again."""
    metadata = MetaData()
    messages = _messages(table_name, metadata)
    _index(messages)
    return Tables(
        metadata,
        messages,
        attempts=_attempts(f"{table_name}_attempt", metadata),
        operations=_operations(f"{table_name}_operation", metadata),
        gates=_gates(f"{table_name}_gate", metadata),
        buckets=_buckets(f"{table_name}_bucket", metadata),
        imports=_imports(f"{table_name}_import", metadata),
        tallies=_tallies(f"{table_name}_tally", metadata),
        tally_marks=_tally_marks(f"{table_name}_tally_mark", metadata),
    )


def _messages(name: str, metadata: MetaData) -> Table:
    return Table(
        name,
        metadata,
        Column("seq", _Sequence, Identity(), primary_key=True),
        Column("id", String(36), nullable=False),
        Column("turn_id", Text),
        Column("channel", String(63), nullable=False),
        Column("account_id", Text, nullable=False, server_default=""),
        Column("target", Text, nullable=False, server_default=""),
        Column("dispatch_kind", String(16)),
        Column("payload", Text),
        Column("headers", Text),
        Column("ordering_key", Text),
        Column("priority", SmallInteger, nullable=False, server_default=text("0")),
        Column("idempotency_key", Text),
        Column("queued_at", BigInteger, nullable=False),
        Column("status", String(16), nullable=False),
        Column("attempt_count", Integer, nullable=False, server_default=text("0")),
        Column("max_attempts", Integer),
        Column("next_attempt_at", BigInteger, nullable=False),
        Column("ttl_ms", BigInteger),
        Column("expires_at", BigInteger),
        Column("last_attempt_at", BigInteger),
        Column("last_error", Text),
        Column("error_class", String(16)),
        Column("terminal_reason", Text),
        Column("delivered_at", BigInteger),
        Column("completed_at", BigInteger),
        Column("receipt", Text),
        Column("lease", BigInteger, nullable=False, server_default=text("0")),
        Column("lease_until", BigInteger),
        Column("lease_owner", Text),
        Column("outcome_unknown", SmallInteger, nullable=False, server_default=text("0")),
        Column("blocked", SmallInteger, nullable=False, server_default=text("0")),
        Column("stamped", SmallInteger, nullable=False, server_default=text("0")),
        Column("blanked_at", BigInteger),
        sqlite_autoincrement=True,
    )


def _index(messages: Table) -> None:
    def index(suffix: str, *columns: str, where: ColumnElement[bool] | None = None, unique: bool = False) -> None:
        Index(
            f"{messages.name}_{suffix}",
            *(messages.c[column] for column in columns),
            unique=unique,
            sqlite_where=where,
            postgresql_where=where,
        )

    c = messages.c
    index("id", "id", unique=True)
    index("idempotency", "channel", "idempotency_key", where=c.idempotency_key.is_not(None), unique=True)
    index("due", "channel", "priority", "next_attempt_at", "seq", where=claimable(messages))
    index("unstamped", "channel", "seq", where=and_(c.status == literal(Status.QUEUED), c.stamped == literal(0)))
    index("dispatched", "channel", "lease_until", where=c.status == literal(Status.DISPATCHED))
    index("sending", "channel", "lease_until", where=c.status == literal(Status.SENDING))
    index("busy", "channel", "ordering_key", where=and_(c.status == literal(Status.SENDING), c.ordering_key.is_not(None)))
    index("parked", "channel", where=c.status == literal(Status.PARKED))
    index(
        "key", "channel", "ordering_key", "seq",
        where=and_(status_in(messages, ACTIVE), c.ordering_key.is_not(None)),
    )  # fmt: skip
    index(
        "blocked", "channel", "ordering_key", "seq",
        where=and_(status_in(messages, DUE), c.blocked == literal(1)),
    )  # fmt: skip
    index("expires", "expires_at", where=and_(status_in(messages, EXPIRABLE), c.expires_at.is_not(None)))
    index("completed", "channel", "status", "completed_at", where=c.completed_at.is_not(None))
    index("turn", "turn_id", where=c.turn_id.is_not(None))


def _attempts(name: str, metadata: MetaData) -> Table:
    return Table(
        name,
        metadata,
        Column("message_id", String(36), nullable=False),
        Column("lease", BigInteger, nullable=False),
        Column("number", Integer, nullable=False),
        Column("outcome", String(16), nullable=False),
        Column("error", Text),
        Column("error_class", String(16)),
        Column("started_at", BigInteger, nullable=False),
        Column("finished_at", BigInteger, nullable=False),
        Column("owner", Text),
        PrimaryKeyConstraint("message_id", "lease"),
    )


def _operations(name: str, metadata: MetaData) -> Table:
    return Table(
        name,
        metadata,
        Column("seq", _Sequence, Identity(), primary_key=True),
        Column("message_id", String(36)),
        Column("channel", String(63), nullable=False),
        Column("action", String(16), nullable=False),
        Column("from_status", String(16)),
        Column("at", BigInteger, nullable=False),
        Column("actor", Text),
        Column("reason", Text),
        Index(f"{name}_message", "message_id"),
        sqlite_autoincrement=True,
    )


def _gates(name: str, metadata: MetaData) -> Table:
    return Table(
        name,
        metadata,
        Column("channel", String(63), nullable=False),
        Column("target", Text, nullable=False, server_default=""),
        Column("kind", String(16), nullable=False),
        Column("closed_since", BigInteger, nullable=False),
        Column("closed_until", BigInteger),
        Column("reason", Text),
        Column("actor", Text),
        Column("failures", Integer, nullable=False, server_default=text("0")),
        PrimaryKeyConstraint("channel", "target", "kind"),
    )


def _buckets(name: str, metadata: MetaData) -> Table:
    return Table(
        name,
        metadata,
        Column("channel", String(63), nullable=False),
        Column("target", Text, nullable=False, server_default=""),
        Column("free_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("channel", "target"),
    )


def _imports(name: str, metadata: MetaData) -> Table:
    return Table(
        name,
        metadata,
        Column("source_id", Text, primary_key=True),
        Column("digest", String(64), nullable=False),
        Column("outcome", String(32), nullable=False),
        Column("message_id", String(36)),
        Column("imported_at", BigInteger, nullable=False),
    )


def _tallies(name: str, metadata: MetaData) -> Table:
    return Table(
        name,
        metadata,
        Column("minute", BigInteger, nullable=False),
        Column("channel", String(63), nullable=False),
        Column("outcome", String(16), nullable=False),
        Column("messages", BigInteger, nullable=False),
        Column("latency_sum_ms", BigInteger, nullable=False),
        Column("latency_max_ms", BigInteger, nullable=False),
        PrimaryKeyConstraint("minute", "channel", "outcome"),
    )


def _tally_marks(name: str, metadata: MetaData) -> Table:
    return Table(
        name,
        metadata,
        Column("channel", String(63), nullable=False),
        Column("outcome", String(16), nullable=False),
        Column("completed_at", BigInteger, nullable=False),
        Column("seq", BigInteger, nullable=False),
        PrimaryKeyConstraint("channel", "outcome"),
    )
