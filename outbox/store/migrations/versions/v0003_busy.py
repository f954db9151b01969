"""An index of the rows with an ordering key that are being sent: whether one of a key is, however many of it wait.

Adds an index and touches no row: processes of the previous release go on beside it. Frozen: later changes are later revisions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create it, unless somebody has done so beforehand, without making writers wait."""
    messages = op.get_context().opts["table_name"]
    rows = sa.text("status = 'sending' AND ordering_key IS NOT NULL")
    op.create_index(
        f"{messages}_busy", messages, ["channel", "ordering_key"], if_not_exists=True,
        sqlite_where=rows, postgresql_where=rows,
    )  # fmt: skip
