"""X: messages that wait are sent and settled, against bare Celery tasks that wait and run."""

import time
from collections.abc import Callable, Iterator

from benchmarks.applications import bare
from benchmarks.applications.settings import BATCH_SIZE, COUNTER, QUICK_SENDS
from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target, in_turns
from benchmarks.rows.stacks import Bare, Ours, running_bare, running_ours

WARM_UP = 200


def against_bare_celery(lab: Lab) -> Iterator[Figures]:
    """X.sqlite, X.postgresql, X.batch1: until the receiver has counted all and every row is settled."""
    count = lab.sized(5_000, 1_000)
    with (
        running_bare(lab) as alone,
        running_ours(lab, "sqlite", options=QUICK_SENDS) as on_sqlite,
        running_ours(lab, "postgresql", options=QUICK_SENDS) as on_postgresql,
    ):
        contenders = {
            "bare": lambda: rate_of_bare(lab, alone, count),
            "sqlite": lambda: rate_of_ours(on_sqlite, count),
            "postgresql": lambda: rate_of_ours(on_postgresql, count),
        }
        _warm_up(lab, alone, on_sqlite, on_postgresql)
        rates = in_turns(lab.rounds, contenders, lab.told)
    for kind, factor in (("sqlite", 10), ("postgresql", 8)):
        what = f"{count:,} waiting messages sent and settled, by {QUICK_SENDS[BATCH_SIZE]} a task, against bare tasks"
        yield Figures(f"X.{kind}", what, "/s", rates[kind], rates["bare"], Target(at_least=factor))


def one_message_a_task(lab: Lab) -> Iterator[Figures]:
    """X.batch1: what is left of it when every message travels in a task of its own."""
    count = lab.sized(2_000, 500)
    with running_bare(lab) as alone, running_ours(lab, "sqlite", options={BATCH_SIZE: "1"}) as on_sqlite:
        _warm_up(lab, alone, on_sqlite)
        contenders: dict[str, Callable[[], float]] = {
            "bare": lambda: rate_of_bare(lab, alone, count),
            "ours": lambda: rate_of_ours(on_sqlite, count),
        }
        rates = in_turns(lab.rounds, contenders, lab.told)
    what = f"the same with batch_size=1 on SQLite, {count:,} messages"
    yield Figures("X.batch1", what, "/s", rates["ours"], rates["bare"], Target(at_least=0.6))


def rate_of_ours(stack: Ours, count: int) -> float:
    """Messages a second, from the moment when the relay may see them."""
    stack.load(count)
    started = time.perf_counter()
    stack.go()
    stack.await_done(count)
    return count / (time.perf_counter() - started)


def rate_of_bare(lab: Lab, alone: Bare, count: int) -> float:
    """Tasks a second, from the moment when the worker may see them."""
    app = alone.app
    app.control.cancel_consumer(bare.QUEUE, reply=True)
    alone.redis.delete(COUNTER)
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            app.tasks["bare.count"].apply_async(producer=producer)
    started = time.perf_counter()
    app.control.add_consumer(bare.QUEUE)
    lab.wait(lambda: int(alone.redis.get(COUNTER) or 0) >= count, f"{count} tasks")
    return count / (time.perf_counter() - started)


def _warm_up(lab: Lab, alone: Bare, *stacks: Ours) -> None:
    rate_of_bare(lab, alone, WARM_UP)
    for stack in stacks:
        rate_of_ours(stack, WARM_UP)
