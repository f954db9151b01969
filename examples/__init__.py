"""Applications that use celery-outbox."""
