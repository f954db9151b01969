"""Tasks of an application: each writes down how it was called, and by what message, as one line of a file."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery import Task, shared_task
from celery.signals import after_task_publish
from sqlalchemy import text

from outbox.integrations.celery import DurableTask
from outbox.integrations.celery.installations import outbox_of
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


@shared_task(name="chores.once", base=Chore, bind=True)
def once(self: Task, **_kwargs: Any) -> None:  # type: ignore[type-arg]
    """The recipe of docs/guides/durable-tasks.md: the mark of the task's id and its effect in one transaction."""
    with outbox_of(self.app).store.engine.begin() as transaction:
        mark = text("insert into marks (task_id) values (:id) on conflict do nothing returning task_id")
        if transaction.scalar(mark, {"id": self.request.id}) is not None:
            transaction.execute(text("insert into effects (task_id) values (:id)"), {"id": self.request.id})


@after_task_publish.connect
def die_once(body: Any = None, **_message: Any) -> None:
    """Kill the process that has just published a task which asks for it, if that was not done before."""
    wish = body[1].get("kill_publisher_once") if isinstance(body, tuple) and isinstance(body[1], dict) else None
    if wish is not None:
        with suppress(FileExistsError):
            Path(wish).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="chores.delegate", base=Chore, bind=True)
def delegate(self: Task, database: str) -> None:  # type: ignore[type-arg]
    """Enqueues another task in a transaction, as any task of an application may."""
    with outbox_of(self.app).store.engine.begin() as transaction:
        take.enqueue(transaction, "from within")
