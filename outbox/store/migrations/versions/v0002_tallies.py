"""Tallies: what became of messages, minute by minute, and how far each channel's outcomes are counted.

Adds two tables and touches none: processes of the previous release go on beside it. Frozen: later changes are later revisions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables under the configured prefix."""
    messages = op.get_context().opts["table_name"]
    op.create_table(
        f"{messages}_tally",
        sa.Column("minute", sa.BigInteger, nullable=False),
        sa.Column("channel", sa.String(63), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("messages", sa.BigInteger, nullable=False),
        sa.Column("latency_sum_ms", sa.BigInteger, nullable=False),
        sa.Column("latency_max_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("minute", "channel", "outcome"),
    )
    op.create_table(
        f"{messages}_tally_mark",
        sa.Column("channel", sa.String(63), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("completed_at", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("channel", "outcome"),
    )
