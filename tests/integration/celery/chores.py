"""Tasks of an application: each writes down how it was called, and by what message, as one line of a file."""

import json
import os
from pathlib import Path
from typing import Any

from celery import Task, shared_task

from outbox.integrations.celery import DurableTask
from tests.integration.celery.application import Settings
from tests.integration.celery.nodes import eventually

_TOLD = (
    "id", "root_id", "parent_id", "group", "group_index", "reply_to", "correlation_id", "expires", "eta", "timelimit", "shadow",
    "ignore_result", "stamps", "argsrepr", "is_eager",
)  # fmt: skip


class Chore(DurableTask):
    """Keeps a record of its calls."""

    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        request = self.request
        told = {name: request.get(name) for name in _TOLD}
        headers = {name: value for name, value in (request.headers or {}).items() if name.startswith("x-")}
        delivery: dict[str, Any] = request.delivery_info or {}
        record = {
            "task": self.name, "args": repr(args), "kwargs": repr(kwargs), **told, "headers": headers,
            "priority": delivery.get("priority"), "routing_key": delivery.get("routing_key"),
            "content_type": getattr(request, "content_type", None), "properties": repr(request.get("properties")),
        }  # fmt: skip
        write(Path(Settings.from_environment().ledger), record)


def write(ledger: Path, record: dict[str, Any]) -> None:
    """Append a record in one write."""
    descriptor = os.open(f"{ledger}-chores", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(record, default=str).encode() + b"\n")
    finally:
        os.close(descriptor)


def done(ledger: Path) -> list[dict[str, Any]]:
    """The records, oldest first."""
    file = Path(f"{ledger}-chores")
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def await_done(ledger: Path, count: int) -> list[dict[str, Any]]:
    """Wait for that many records, and no fewer."""
    eventually(lambda: len(done(ledger)) >= count, lambda: f"{count} chores, and there are {done(ledger)}")
    return done(ledger)


@shared_task(name="chores.add", base=Chore)
def add(*terms: Any) -> Any:
    return sum(terms)


@shared_task(name="chores.total", base=Chore)
def total(terms: list[int]) -> int:
    return sum(terms)


@shared_task(name="chores.take", base=Chore)
def take(*args: Any, **kwargs: Any) -> None:
    """Takes anything."""


@shared_task(name="chores.fail", base=Chore)
def fail(*_args: Any) -> None:
    raise ValueError("as it was asked to")


@shared_task(name="chores.excuse", base=Chore)
def excuse(_task_id: str) -> None:
    """What is called when another task fails, or has ended."""


@shared_task(name="chores.brief", base=Chore, expires=3600, serializer="yaml")
def brief() -> None:
    """A task whose class says when it expires and how it is written."""


@shared_task(name="chores.delegate", base=Chore, bind=True)
def delegate(self: Task, database: str) -> None:  # type: ignore[type-arg]
    """Enqueues another task in a transaction, as any task of an application may."""
    from outbox.integrations.celery.installations import outbox_of

    outbox = outbox_of(self.app)
    with outbox.store.engine.begin() as transaction:
        take.enqueue(transaction, "from within")
