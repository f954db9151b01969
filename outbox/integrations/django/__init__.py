"""celery-outbox as a Django app: ``INSTALLED_APPS += ["outbox.integrations.django"]``, and ``OUTBOX = {…}`` in the settings."""

from outbox.extras import extra

with extra("django", "the Django app"):
    from outbox.integrations.django.process import channel, enqueue, enqueue_many, enqueue_reply, outbox, register

__all__ = ["channel", "enqueue", "enqueue_many", "enqueue_reply", "outbox", "register"]
