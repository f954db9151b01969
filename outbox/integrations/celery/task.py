"""A base class for an application's tasks: ``.enqueue`` beside ``.delay``, in the caller's transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task

from outbox.integrations.celery.installations import outbox_of
from outbox.tasks.calls import QueuedTask


class DurableTask(Task):  # type: ignore[type-arg] # at run time it takes none
    """``Celery(task_cls=DurableTask)``, or ``@app.task(base=DurableTask)``, on an application with an installed outbox.

    What :meth:`~celery.app.task.Task.delay` and ``apply_async`` do stays as it is.
    """

    abstract = True

    def enqueue(self, transaction: Any, /, *args: Any, **kwargs: Any) -> QueuedTask:
        """``delay`` as a message in the caller's open transaction: sent when it commits, never when it is rolled back."""
        return self.apply_enqueue(transaction, args, kwargs)

    def apply_enqueue(
        self,
        transaction: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> QueuedTask:
        """``apply_async`` as a message in the caller's open transaction; options as for :meth:`outbox.Outbox.send_task`.

        Raises :class:`TypeError` for arguments that the task does not take, as ``apply_async`` does.
        """
        if self.typing:
            check_arguments: Any = getattr(self, "__header__", None)
            if check_arguments is not None:
                check_arguments(*(args or ()), **(kwargs or {}))
        return outbox_of(self.app).send_task(transaction, self.name or "", args, kwargs, **options)
