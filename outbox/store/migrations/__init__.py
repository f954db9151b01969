"""The schema's versions, as Alembic revisions that run on both databases, forward only."""
