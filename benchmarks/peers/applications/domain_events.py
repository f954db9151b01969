"""django-domain-events: `fire()` writes an event and what its receiver is owed; its relay delivers.

The receiver runs in the relay, or where ``BENCH_SITE`` is ``task``, in a Celery worker that the relay hands it to.
"""

import os
from dataclasses import dataclass

from celery import Celery
from django.db import transaction

from benchmarks.peers.applications import celery_settings, django_project, work

SITE = os.environ.get("BENCH_SITE", "relay")

app = celery_settings.configured(Celery("domain_events"), "domain-events")
app.set_default()
django_project.set_up(
    "django_domain_events",
    DJANGO_DOMAIN_EVENTS={
        "BATCH_SIZE": 500,
        "POLL_SECONDS": 0.05,
        "TASK_BACKEND": "django_domain_events.delivery.celery_backend.CeleryBackend",
    },
)

from django_domain_events import DURABLE, event, fire, receiver  # noqa: E402 - they need the settings
from django_domain_events.delivery.celery_backend import deliver_delivery_task  # noqa: E402, F401 - registers the task
from django_domain_events.delivery.run_relay import run_relay  # noqa: E402


@event(name="counted")
@dataclass(frozen=True, slots=True)
class Counted:
    number: int


@receiver(Counted, mode=DURABLE, site=SITE, key="count")
def count(_event: Counted) -> None:
    work.count_one()


prepare = django_project.prepare


def load(number: int) -> None:
    with transaction.atomic():
        for one in range(number):
            fire(Counted(one))


def relay() -> None:
    """As its management command does; alone it may run on SQLite too, whose rows its claims cannot lock."""
    run_relay(worker_id=f"relay-{os.getpid()}", allow_unsafe_concurrency=True)
