"""Celery as all peers that have it run it: as ours does."""

from celery import Celery

from benchmarks.peers.applications.work import broker

CELERY = {
    "worker_prefetch_multiplier": 4,
    "task_ignore_result": True,
    "broker_connection_retry_on_startup": True,
    "worker_send_task_events": False,
    "broker_transport_options": {"visibility_timeout": 3600},
}


def configured(app: Celery, queue: str) -> Celery:
    """``app`` with the broker, and a queue of its own."""
    app.conf.update(CELERY, broker_url=broker(), task_default_queue=queue)
    return app
