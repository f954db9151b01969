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
from benchmarks.rows.stacks import Ours, running_bare, running_ours

PACE_S = 0.05


def commit_to_send(lab: Lab) -> Iterator[Figures]:
    """L.p50, L.p99: 20 messages a second through an idle stack, against 20 bare tasks a second."""
    messages = lab.sized(240, 60)
    delays: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
    numbers = count()
    with running_bare(lab) as alone, running_ours(lab, "sqlite") as stack:

        def publish() -> str:
            task_id = str(next(numbers))
            alone.app.tasks["bare.timed"].delay(task_id)
            return task_id

        def measured(name: str, redis: "Redis", send: Callable[[], str]) -> float:
            delays[name].append(delays_ms(lab, redis, messages, send))
            return 0.0

        contenders = {
            "theirs": lambda: measured("theirs", alone.redis, publish),
            "ours": lambda: measured("ours", stack.redis, lambda: _commit(stack)),
        }
        delays_ms(lab, alone.redis, 20, publish)
        delays_ms(lab, stack.redis, 20, lambda: _commit(stack))
        in_turns(lab.rounds, contenders, lab.told)
    for percent, most in ((50, 2.5), (99, 5.0)):
        of = {name: [percentile(values, percent) for values in rounds] for name, rounds in delays.items()}
        what = f"p{percent} from commit to the start of the send at 20/s on SQLite, against .delay() to the task's start"
        yield Figures(f"L.p{percent}", what, "ms", of["ours"], of["theirs"], Target(at_most=most))


def _commit(stack: Ours) -> str:
    with Session(stack.outbox.store.engine) as session, session.begin():
        return stack.outbox.enqueue(session, ours.TIMED).id


def delays_ms(lab: Lab, redis: "Redis", messages: int, send: Callable[[], str], pace_s: float = PACE_S) -> list[float]:
    """How long each took to begin, counted from the moment when the caller had it committed or published."""
    redis.delete(STARTS)
    committed: dict[str, float] = {}
    due = time.monotonic()
    for _ in range(messages):
        message_id = send()
        committed[message_id] = time.time()
        due += pace_s
        time.sleep(max(0.0, due - time.monotonic()))
    lab.wait(lambda: committed.keys() <= _starts(redis).keys(), "every send to begin", every_s=0.05)
    starts = _starts(redis)
    return [(starts[message_id] - moment) * 1000 for message_id, moment in committed.items()]


def _starts(redis: "Redis") -> dict[str, float]:
    lines = (line.decode().split() for line in redis.lrange(STARTS, 0, -1))  # type: ignore[union-attr]
    return {message_id: float(moment) for message_id, moment in lines}
