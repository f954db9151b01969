"""The service's Celery application: the library installed into an app, as any application would do it.

``celery -A workers worker`` alone serves every queue of the outbox, ``celery -A workers beat`` makes it work, and
``celery -A workers flower`` shows it.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any, Final

from celery import Celery
from kombu import Queue

from config.channels import load_channels
from config.settings import LogFormat, LogLevel, Settings, load_settings
from outbox import Outbox
from outbox.errors import ConfigurationError
from outbox.integrations.celery import install
from outbox.integrations.celery.names import MAINTAIN_TASK, RELAY_QUEUE, RELAY_TASK
from outbox.policy.retention import Retention
from workers import logs
from workers.broker import require_broker
from workers.metrics import count_in_workers

CHATTY_LOGGERS: Final = ("celery.app.trace", "celery.beat", "celery.worker.strategy")
"""Celery's lines for each task, every second even when idle; the outbox logs its attempts itself."""
VISIBILITY_TIMEOUT_S: Final = 6 * 3600
"""Far above any task's run time, since Redis hands out again what runs longer."""
SOCKET_TIMEOUT_S: Final = 5.0
"""A frozen broker is noticed after this time; without it, never."""


def open_outbox(settings: Settings) -> Outbox:
    """The outbox that the settings describe, with its channels. Raises :class:`~outbox.errors.ConfigurationError`."""
    retention = Retention(
        delivered_ms=round(settings.delivered_retention_s * 1000), failed_ms=round(settings.failed_retention_s * 1000)
    )
    return Outbox(settings.database_url, channels=load_channels(settings), retention=retention)


def create_app(settings: Settings, broker_url: str) -> Celery:
    """An app that relays and delivers what is in the configured database."""
    settings.make_data_dir()
    app = Celery("outbox", broker=broker_url)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_ignore_result=True,
        # `install` adds the channels' queues. Celery's own default queue is not among them: on a broker that is shared, the
        # tasks in it are somebody else's.
        task_default_exchange="outbox",
        task_default_queue=RELAY_QUEUE,
        task_queues=[Queue(RELAY_QUEUE, routing_key=RELAY_QUEUE)],
        worker_prefetch_multiplier=1,
        worker_send_task_events=settings.flower,  # it would ask for them, but miss what ran before
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a send under way needs no broker
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport_options(broker_url),
        beat_schedule_filename=str(settings.data_dir / "celerybeat-schedule"),
        beat_enable_remote_control=True,
    )
    outbox = open_outbox(settings)
    install(
        app,
        outbox,
        relay_interval_s=settings.relay_interval_s,
        maintain_interval_s=settings.maintain_interval_s,
        durable_tasks=False,  # the application's tasks are the application's own: here nobody knows where they go
    )
    for tick in (RELAY_TASK, MAINTAIN_TASK):
        app.tasks[tick].send_events = False  # a hundred thousand a day would push every delivery out of Flower's list
    if settings.metrics:
        count_in_workers(outbox, settings)
    if settings.traces:
        _follow(outbox)
    if settings.log_format is LogFormat.JSON:
        logs.write_json()
    return app


def _follow(outbox: Outbox) -> None:
    from outbox.integrations import opentelemetry

    opentelemetry.instrument(outbox)


def _transport_options(broker_url: str) -> dict[str, Any]:
    if broker_url.startswith(("amqp", "pyamqp")):
        return {"confirm_publish": True}  # without it a message can be lost silently, and waits for its horizon
    return {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
    }


def _app() -> Celery:
    try:
        settings = load_settings()
        app = create_app(settings, require_broker(settings))
    except ConfigurationError as error:
        sys.exit(f"outbox: {error}")  # Celery would print a traceback around it
    if settings.log_level is not LogLevel.DEBUG:
        for name in CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
    # Where Flower looks for its options, unless the user tells it otherwise.
    os.environ.setdefault("FLOWER_CONF", str(Path(__file__).with_name("flowerconfig.py")))
    return app


app = _app()
