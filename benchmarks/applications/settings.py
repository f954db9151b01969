"""What the measured applications are told, and what they have in common."""

import os
import threading
from functools import cache
from typing import Any

import redis

DATABASE = "BENCH_DATABASE"
BROKER = "BENCH_BROKER"
BATCH_SIZE = "BENCH_BATCH_SIZE"
CONCURRENCY = "BENCH_CONCURRENCY"
ORDERED = "BENCH_ORDERED"
NAP_S = "BENCH_NAP_S"

QUICK_SENDS = {BATCH_SIZE: "250", CONCURRENCY: "100"}
"""A channel whose sends take a fraction of a millisecond."""

COUNTER = "bench:sent"
STARTS = "bench:starts"
"""A list of ``id moment``: when each send began, by the clock of the host."""

CELERY: dict[str, Any] = {
    "worker_prefetch_multiplier": 4,
    "task_ignore_result": True,
    "broker_connection_retry_on_startup": True,
    "worker_send_task_events": False,
    "broker_transport_options": {"visibility_timeout": 3600},
}
"""Alike for all."""


def broker() -> str:
    return os.environ[BROKER]


@cache
def client() -> "redis.Redis":
    """One connection pool a process, made after the fork."""
    return redis.Redis.from_url(broker())


_own = threading.local()


def count_one() -> None:
    """The work of one message: an INCR, over a connection of the thread's own.

    The client's pool and its layers would take three times as long, and what they take is not what is compared.
    """
    try:
        connection = _own.connection
    except AttributeError:
        connection = _own.connection = client().connection_pool.get_connection()
    connection.send_command("INCR", COUNTER)
    connection.read_response()
