"""Durable Celery tasks, as far as the library knows them without Celery."""
