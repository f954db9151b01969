"""The runnable service: ``python -m workers`` runs it all, ``celery -A workers worker|beat|flower`` one process of it."""

from typing import Any


def __getattr__(name: str) -> Any:
    # Where `celery -A workers` looks first. Without it Celery finds the module too, but hides why it cannot be imported.
    if name == "app":
        from workers.celery import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
