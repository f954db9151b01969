"""django-celery-outbox: `.delay()` writes a row, its relay publishes what was committed."""

from django.core.management import call_command
from django.db import transaction

from benchmarks.peers.applications import celery_settings, django_project, work

django_project.set_up(
    "django_celery_outbox",
    CELERY_OUTBOX_APP="benchmarks.peers.applications.celery_outbox.app",
    MONITORING_METRICS_ENABLED=False,
)

from django_celery_outbox import OutboxCelery  # noqa: E402 - its models need the settings

app = celery_settings.configured(OutboxCelery("celery_outbox"), "celery-outbox")


@app.task(name="celery_outbox.count")
def count() -> None:
    work.count_one()


prepare = django_project.prepare


def load(number: int) -> None:
    with transaction.atomic():
        for _ in range(number):
            count.delay()


def relay() -> None:
    call_command("celery_outbox_relay", batch_size=500, idle_time=0.05)
