"""A Celery application that knows nothing of an outbox."""

from celery import Celery

app = Celery("bare", broker="memory://", set_as_current=False)
