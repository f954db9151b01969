"""The first schema: messages, their attempts, operators' actions, gates, and import receipts.

Frozen: later changes are later revisions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_ACTIVE = "('dispatched', 'failed_retryable', 'parked', 'queued', 'sending')"
_DUE = "('failed_retryable', 'queued')"
_EXPIRABLE = "('dispatched', 'failed_retryable', 'queued')"


def upgrade() -> None:
    """Create every table and index under the configured prefix."""
    messages = op.get_context().opts["table_name"]
    _create_messages(messages)
    _create_indexes(messages)
    _create_attempts(f"{messages}_attempt")
    _create_operations(f"{messages}_operation")
    _create_gates(f"{messages}_gate")
    _create_buckets(f"{messages}_bucket")
    _create_imports(f"{messages}_import")


def _create_messages(name: str) -> None:
    op.create_table(
        name,
        sa.Column("seq", _SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("turn_id", sa.Text),
        sa.Column("channel", sa.String(63), nullable=False),
        sa.Column("account_id", sa.Text, nullable=False, server_default=""),
        sa.Column("target", sa.Text, nullable=False, server_default=""),
        sa.Column("dispatch_kind", sa.String(16)),
        sa.Column("payload", sa.Text),
        sa.Column("headers", sa.Text),
        sa.Column("ordering_key", sa.Text),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("queued_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt_count", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("max_attempts", sa.Integer),
        sa.Column("next_attempt_at", sa.BigInteger, nullable=False),
        sa.Column("ttl_ms", sa.BigInteger),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("last_attempt_at", sa.BigInteger),
        sa.Column("last_error", sa.Text),
        sa.Column("error_class", sa.String(16)),
        sa.Column("terminal_reason", sa.Text),
        sa.Column("delivered_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("receipt", sa.Text),
        sa.Column("lease", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("lease_owner", sa.Text),
        sa.Column("outcome_unknown", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("blocked", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("stamped", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("blanked_at", sa.BigInteger),
        sqlite_autoincrement=True,
    )


def _create_indexes(messages: str) -> None:
    def index(suffix: str, columns: list[str], where: str | None = None, *, unique: bool = False) -> None:
        condition = None if where is None else sa.text(where)
        op.create_index(
            f"{messages}_{suffix}", messages, columns, unique=unique, sqlite_where=condition, postgresql_where=condition
        )

    index("id", ["id"], unique=True)
    index("idempotency", ["channel", "idempotency_key"], "idempotency_key IS NOT NULL", unique=True)
    index("due", ["channel", "priority", "next_attempt_at", "seq"], f"status IN {_DUE} AND blocked = 0 AND stamped = 1")
    index("unstamped", ["channel", "seq"], "status = 'queued' AND stamped = 0")
    index("dispatched", ["channel", "lease_until"], "status = 'dispatched'")
    index("sending", ["channel", "lease_until"], "status = 'sending'")
    index("parked", ["channel"], "status = 'parked'")
    index("key", ["channel", "ordering_key", "seq"], f"status IN {_ACTIVE} AND ordering_key IS NOT NULL")
    index("blocked", ["channel", "ordering_key", "seq"], f"status IN {_DUE} AND blocked = 1")
    index("expires", ["expires_at"], f"status IN {_EXPIRABLE} AND expires_at IS NOT NULL")
    index("completed", ["channel", "status", "completed_at"], "completed_at IS NOT NULL")
    index("turn", ["turn_id"], "turn_id IS NOT NULL")


def _create_attempts(name: str) -> None:
    op.create_table(
        name,
        sa.Column("message_id", sa.String(36), nullable=False),
        sa.Column("lease", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("error_class", sa.String(16)),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text),
        sa.PrimaryKeyConstraint("message_id", "lease"),
    )


def _create_operations(name: str) -> None:
    op.create_table(
        name,
        sa.Column("seq", _SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("message_id", sa.String(36)),
        sa.Column("channel", sa.String(63), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("from_status", sa.String(16)),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text),
        sa.Column("reason", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index(f"{name}_message", name, ["message_id"])


def _create_gates(name: str) -> None:
    op.create_table(
        name,
        sa.Column("channel", sa.String(63), nullable=False),
        sa.Column("target", sa.Text, nullable=False, server_default=""),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("closed_since", sa.BigInteger, nullable=False),
        sa.Column("closed_until", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("actor", sa.Text),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("channel", "target", "kind"),
    )


def _create_buckets(name: str) -> None:
    op.create_table(
        name,
        sa.Column("channel", sa.String(63), nullable=False),
        sa.Column("target", sa.Text, nullable=False, server_default=""),
        sa.Column("free_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("channel", "target"),
    )


def _create_imports(name: str) -> None:
    op.create_table(
        name,
        sa.Column("source_id", sa.Text, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("message_id", sa.String(36)),
        sa.Column("imported_at", sa.BigInteger, nullable=False),
    )
