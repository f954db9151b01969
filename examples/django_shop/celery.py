"""The shop's Celery application, with the outbox installed: the worker delivers, and a commit wakes the relay."""

import os

from celery import Celery

from outbox.integrations.celery import install
from outbox.integrations.django import outbox

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
install(app, outbox())
