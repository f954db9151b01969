"""celery-outbox in a Celery application: ``install(app, outbox)``."""

from outbox.extras import extra

with extra("celery", "the integration with Celery"):
    from outbox.integrations.celery.channel import CeleryTasks
    from outbox.integrations.celery.dispatching import CeleryDispatcher
    from outbox.integrations.celery.install import Installation, install
    from outbox.integrations.celery.task import DurableTask

__all__ = ["CeleryDispatcher", "CeleryTasks", "DurableTask", "Installation", "install"]
