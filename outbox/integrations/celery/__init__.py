"""celery-outbox in a Celery application: ``install(app, outbox)``."""

from outbox.integrations.celery.dispatching import CeleryDispatcher
from outbox.integrations.celery.install import Installation, install

__all__ = ["CeleryDispatcher", "Installation", "install"]
