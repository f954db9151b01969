"""L: from the commit to the start of the send, at a pace that leaves the machine idle."""

import time
from collections.abc import Callable, Iterator
from itertools import count

from redis import Redis
from sqlalchemy.orm import Session

from benchmarks.applications import ours
from benchmarks.applications.settings import STARTS
from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target, in_turns, percentile
from benchmarks.rows.stacks import Bare, Ours, running_bare, running_ours

PACE_S = 0.05

Send = Callable[[], tuple[str, float]]
"""Sends one; returns its id, and when the application's data were safe (seconds since the epoch)."""


def commit_to_send(lab: Lab) -> Iterator[Figures]:
    """L.p50, L.p99: 20 messages a second through an idle stack, against 20 bare tasks a second."""
    messages = lab.sized(240, 60)
    delays: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
    with running_bare(lab) as alone, running_ours(lab, "sqlite") as stack:

        def measured(name: str, redis: "Redis", send: Send) -> float:
            delays[name].append(delays_ms(lab, redis, messages, send))
            return 0.0

        publish, commit = publishing(alone), committing(stack)
        contenders = {
            "theirs": lambda: measured("theirs", alone.redis, publish),
            "ours": lambda: measured("ours", stack.redis, commit),
        }
        delays_ms(lab, alone.redis, 20, publish)
        delays_ms(lab, stack.redis, 20, commit)
        in_turns(lab.rounds, contenders, lab.told)
    for percent, most in ((50, 2.5), (99, 5.0)):
        of = {name: [percentile(values, percent) for values in rounds] for name, rounds in delays.items()}
        what = f"p{percent} from commit to the start of the send at 20/s on SQLite, against a bare task's from .delay()"
        yield Figures(f"L.p{percent}", what, "ms", of["ours"], of["theirs"], Target(at_most=most))


def publishing(bare: Bare) -> Send:
    """By an application without an outbox, which has committed its data and now publishes the task."""
    numbers = count()

    def publish() -> tuple[str, float]:
        task_id, called = str(next(numbers)), time.time()
        bare.app.tasks["bare.timed"].delay(task_id)
        return task_id, called

    return publish


def committing(stack: Ours) -> Send:
    """By an application that has committed its data, and the message with them."""

    def commit() -> tuple[str, float]:
        with Session(stack.outbox.store.engine) as session, session.begin():
            message_id = stack.outbox.enqueue(session, ours.TIMED).id
        return message_id, time.time()

    return commit


def delays_ms(lab: Lab, redis: "Redis", messages: int, send: Send, pace_s: float = PACE_S) -> list[float]:
    """How long each took to begin, counted from where the application's data are safe."""
    redis.delete(STARTS)
    committed: dict[str, float] = {}
    due = time.monotonic()
    for _ in range(messages):
        message_id, moment = send()
        committed[message_id] = moment
        due += pace_s
        time.sleep(max(0.0, due - time.monotonic()))
    lab.wait(lambda: committed.keys() <= _starts(redis).keys(), "every send to begin", every_s=0.05)
    starts = _starts(redis)
    return [(starts[message_id] - moment) * 1000 for message_id, moment in committed.items()]


def _starts(redis: "Redis") -> dict[str, float]:
    lines = (line.decode().split() for line in redis.lrange(STARTS, 0, -1))  # type: ignore[union-attr]
    return {message_id: float(moment) for message_id, moment in lines}
