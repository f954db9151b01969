"""Django's tasks (from Django 6) as messages of the outbox, written in the caller's transaction and run by its workers.

``TASKS = {"default": {"BACKEND": "outbox.integrations.django.task_backend.OutboxBackend"}}``. It is not called ``tasks``,
because Celery imports whatever has that name in an app.
"""

from datetime import UTC, datetime
from typing import Any

from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import TaskError
from django.tasks.exceptions import TaskResultDoesNotExist
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.utils import timezone
from django.utils.json import normalize_json
from django.utils.module_loading import import_string

from outbox.channels.base import Channel
from outbox.errors import DeliverySignal, MessageNotFound, PermanentFailure, RetryLater
from outbox.integrations.django import process
from outbox.integrations.django.functions import fresh_connections
from outbox.lifecycle import Status
from outbox.message import Attempt, Message, NewMessage, Receipt

CHANNEL = "django.tasks"

_STATUSES = {
    Status.QUEUED: TaskResultStatus.READY,
    Status.FAILED_RETRYABLE: TaskResultStatus.READY,
    Status.DISPATCHED: TaskResultStatus.READY,
    Status.PARKED: TaskResultStatus.READY,
    Status.SENDING: TaskResultStatus.RUNNING,
    Status.DELIVERED: TaskResultStatus.SUCCESSFUL,
    Status.FAILED_TERMINAL: TaskResultStatus.FAILED,
    Status.EXPIRED: TaskResultStatus.FAILED,
    Status.CANCELLED: TaskResultStatus.FAILED,
}


class OutboxBackend(BaseTaskBackend):
    """Tasks as messages: joined to the open transaction, or written in one of their own where none is open."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def enqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Write the task. Raises :class:`~outbox.errors.InvalidMessage` for arguments that cannot be stored."""
        self.validate_task(task)
        here = process.outbox()
        call = {"args": normalize_json(args), "kwargs": normalize_json(kwargs)}
        row = NewMessage(
            channel=CHANNEL,
            target=task.module_path,
            payload={**call, "queue": task.queue_name, "backend": self.alias},
            priority=int(task.priority),
            due_at=_aware(task.run_after),
        )  # fmt: skip
        (queued,) = here.enqueue_anyway(here.configured.database, [row])
        result = _result(
            task, queued.id, self.alias, args=args, kwargs=kwargs, status=TaskResultStatus.READY, enqueued_at=timezone.now()
        )
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult:
        """How far a task is: as long as its message is kept."""
        try:
            message = process.outbox().get(result_id)
        except MessageNotFound:
            raise TaskResultDoesNotExist(result_id) from None
        if message.channel != CHANNEL or message.payload is None:
            raise TaskResultDoesNotExist(result_id)
        return _told(message, _task(message))


class TaskChannel(Channel):
    """Runs tasks. What one raises is tried again, as often as ``max_attempts`` says; what it returns is kept."""

    name = CHANNEL
    timeout = 300.0
    concurrency = 4
    target_required = False

    def __init__(self, **policy: Any) -> None:
        super().__init__(None, **policy)

    def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        """Run the task. Raises ``PermanentFailure`` where there is no such task, or its answer cannot be kept."""
        task = _task(message)
        result = _told(message, task)
        task_started.send(OutboxBackend, task_result=result)
        try:
            with fresh_connections():
                context = [TaskContext(task_result=result)] if task.takes_context else []
                returned = task.call(*context, *result.args, **result.kwargs)
        except DeliverySignal:
            raise
        except Exception as error:
            kind = type(error)
            raise RetryLater(f"{kind.__module__}.{kind.__qualname__}: {error}") from error
        try:
            details = {"return_value": normalize_json(returned)}
        except (TypeError, ValueError) as error:
            raise PermanentFailure(f"the task has run, and what it returned cannot be kept: {error}") from error
        _finish(result, details["return_value"])
        return Receipt(details=details)


def _task(message: Message) -> Task:
    """The task that a message names: nothing but a task, so that no row can call anything else."""
    try:
        task = import_string(message.target)
    except ImportError as error:
        raise PermanentFailure(f"there is no task {message.target}: {error}") from error
    if not isinstance(task, Task):
        raise PermanentFailure(f"{message.target} is a {type(task).__name__}, and not a task")
    payload = message.payload
    return task.using(priority=message.priority, queue_name=payload["queue"], backend=payload["backend"])


def _told(message: Message, task: Task) -> TaskResult:
    payload, status = message.payload, _STATUSES[message.status]
    started = _moment(message.last_attempt_at)
    result = _result(
        task, message.id, payload["backend"], args=payload["args"], kwargs=payload["kwargs"], status=status,
        enqueued_at=_moment(message.queued_at), started_at=started, last_attempted_at=started,
        finished_at=_moment(message.completed_at), errors=_errors(message),
        worker_ids=[message.lease_owner or ""] * message.attempt_count,
    )  # fmt: skip
    if status is TaskResultStatus.SUCCESSFUL:
        receipt = message.receipt or {}
        object.__setattr__(result, "_return_value", receipt.get("details", {}).get("return_value"))
    return result


def _result(task: Task, result_id: str, backend: str, **known: Any) -> TaskResult:
    unknown: dict[str, Any] = {"started_at": None, "finished_at": None, "last_attempted_at": None}
    return TaskResult(task=task, id=result_id, backend=backend, **{**unknown, "errors": [], "worker_ids": [], **known})


def _finish(result: TaskResult, returned: Any) -> None:
    for name, value in (("status", TaskResultStatus.SUCCESSFUL), ("finished_at", timezone.now()), ("_return_value", returned)):
        object.__setattr__(result, name, value)
    task_finished.send(OutboxBackend, task_result=result)


def _errors(message: Message) -> list[TaskError]:
    """The last error: its text is what is kept, and begins with the class's path where the task raised it."""
    if message.last_error is None:
        return []
    return [TaskError(exception_class_path=message.last_error.partition(":")[0], traceback=message.last_error)]


def _aware(moment: datetime | None) -> datetime | None:
    return moment if moment is None or timezone.is_aware(moment) else timezone.make_aware(moment)


def _moment(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else datetime.fromtimestamp(epoch_ms / 1000, UTC)
