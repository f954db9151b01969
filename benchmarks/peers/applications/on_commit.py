"""Celery alone: `delay_on_commit` in Django publishes once the transaction has committed."""

from celery import Celery
from django.db import transaction

from benchmarks.peers.applications import celery_settings, django_project, work

django_project.set_up()
app = celery_settings.configured(Celery("on_commit", task_cls="celery.contrib.django.task:DjangoTask"), "on-commit")


@app.task(name="on_commit.count")
def count() -> None:
    work.count_one()


prepare = django_project.prepare


def load(number: int) -> None:
    for _ in range(number):
        with transaction.atomic():
            count.delay_on_commit()
