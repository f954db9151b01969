"""A web process that enqueues at a steady pace on an engine of its own; it prints how long each transaction took, in ms."""

import os
import sys
import time

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from benchmarks.applications import ours
from benchmarks.applications.settings import DATABASE, broker
from outbox.integrations.sqlite import queue_writers


def enqueue_for(seconds: float, pace_s: float) -> list[float]:
    """One transaction with one message every ``pace_s``; the time of each in milliseconds."""
    _, outbox, _ = ours.create(os.environ[DATABASE], broker())
    engine = create_engine(os.environ[DATABASE])
    queue_writers(engine)
    took: list[float] = []
    until = due = time.monotonic()
    until += seconds
    while (due := due + pace_s) < until:
        time.sleep(max(0.0, due - time.monotonic()))
        started = time.perf_counter()
        with Session(engine) as session, session.begin():
            outbox.enqueue(session, ours.CHANNEL, payload={"text": "On its way"})
        took.append((time.perf_counter() - started) * 1000)
    outbox.close()
    return took


if __name__ == "__main__":
    print(*enqueue_for(float(sys.argv[1]), float(sys.argv[2])))
