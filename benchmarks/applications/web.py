"""A web process that enqueues at a steady pace; it prints how long each transaction took, in milliseconds."""

import os
import sys
import time

from benchmarks.applications import ours
from benchmarks.applications.settings import DATABASE, broker


def enqueue_for(seconds: float, pace_s: float) -> list[float]:
    """One transaction with one message every ``pace_s``; the time of each in milliseconds."""
    _, outbox, _ = ours.create(os.environ[DATABASE], broker())
    took: list[float] = []
    until = due = time.monotonic()
    until += seconds
    while (due := due + pace_s) < until:
        time.sleep(max(0.0, due - time.monotonic()))
        started = time.perf_counter()
        with outbox.store.transaction() as tx:
            outbox.enqueue(tx.connection, ours.CHANNEL, payload={"text": "On its way"})
        took.append((time.perf_counter() - started) * 1000)
    outbox.close()
    return took


if __name__ == "__main__":
    print(*enqueue_for(float(sys.argv[1]), float(sys.argv[2])))
