"""The outbox's tasks and queues in an application that has its own ideas about tasks and queues."""

from collections.abc import Callable
from math import ceil
from typing import Any

from celery import Celery, Task


def register(app: Celery, name: str, function: Callable[..., dict[str, Any]], *, time_limit_s: float, **options: Any) -> None:
    """Register ``function`` as a task on this application alone, out of reach of its base class and its defaults.

    Retries and redelivery belong to the database: Celery acknowledges early and tries once. A soft time limit of the
    application's would end a delivery task in the middle of its sends; one equal to the hard limit never comes first.
    """
    limit = ceil(time_limit_s)
    decorate: Any = app.task(
        name=name,
        base=Task,
        shared=False,  # else Celery registers it with every other application of the process, which may have its own outbox
        serializer="json",
        ignore_result=True,
        max_retries=0,
        rate_limit="0",  # none, not even the default of the application
        acks_late=False,
        reject_on_worker_lost=False,
        retry_on_worker_lost=False,
        time_limit=limit,
        soft_time_limit=limit,
        **options,
    )
    decorate(function)


def declare(app: Celery, name: str) -> None:
    """Add a queue to those that a worker without ``-Q`` serves, unless the application has one of that name.

    It is the queue that Celery would create if it were missing, so both ends agree where only one of them declares it.
    """
    queues = app.amqp.Queues(app.conf.task_queues)
    if name not in queues:
        app.conf.task_queues = [*queues.values(), queues.new_missing(name)]
