"""An application without an outbox: its tasks do the same, as Celery alone does it."""

import os
import time

from celery import Celery

from benchmarks.applications.settings import BROKER, CELERY, STARTS, broker, client, count_one

QUEUE = "bare"
TICKING = "BENCH_TICKING"
"""Whether beat has something to send as often as ours has."""


def create(broker_url: str) -> Celery:
    app = Celery("bare", broker=broker_url, set_as_current=False)
    app.conf.update(CELERY, task_default_queue=QUEUE)

    @app.task(name="bare.count", shared=False)
    def count() -> None:
        count_one()

    @app.task(name="bare.timed", shared=False)
    def timed(message_id: str) -> None:
        client().rpush(STARTS, f"{message_id} {time.time()}")

    @app.task(name="bare.tick", shared=False)
    def tick() -> None:
        """What a periodic task costs that does nothing."""

    if TICKING in os.environ:
        app.conf.beat_schedule = {f"every-{s:g}-s": {"task": "bare.tick", "schedule": s} for s in (1.0, 5.0)}
    return app


if BROKER in os.environ:
    app = create(broker())
