"""cost: processor time a message, of the node that sends it, of the database and of the broker: what sizing counts with."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

import psutil

from benchmarks.lab import Lab
from benchmarks.measuring import Figures, Target
from benchmarks.rows.end_to_end import rate_of_bare, rate_of_ours
from benchmarks.rows.stacks import running_bare, running_ours

MICROSECONDS = 1e6


def of_a_message(lab: Lab) -> Iterator[Figures]:
    """cost.node, cost.broker, cost.database: on PostgreSQL, against a bare task; the database's against the node's."""
    count = lab.sized(5_000, 500)
    before = list(lab.running)
    with running_bare(lab) as alone, running_ours(lab, "postgresql") as stack:
        bare, ours = _split(lab, before)
        database, broker = [lab.postgres.process.pid], [lab.valkey.process.pid]
        rate_of_bare(lab, alone, 200)
        rate_of_ours(stack, 200)
        spent: dict[str, list[float]] = {}

        def measured(names: str, processes: Sequence[Sequence[int]], work: Callable[[], float]) -> None:
            began = [_processor_s(pids) for pids in processes]
            work()
            for name, pids, start in zip(names.split(), processes, began, strict=True):
                spent.setdefault(name, []).append((_processor_s(pids) - start) / count * MICROSECONDS)
            lab.told()

        for _ in range(lab.rounds):
            measured("bare.node bare.broker", [bare, broker], lambda: rate_of_bare(lab, alone, count))
            measured("node broker database", [ours, broker, database], lambda: rate_of_ours(stack, count))
    what = "processor time a message on the node that relays and sends, against a bare task"
    yield Figures("cost.node", what, "µs", spent["node"], spent["bare.node"], Target(at_most=1))
    what = "processor time a message of the broker, the counter's INCR included, against a bare task"
    yield Figures("cost.broker", what, "µs", spent["broker"], spent["bare.broker"], Target(at_most=1))
    what = "processor time a message of PostgreSQL, enqueueing included, against the node's"
    yield Figures("cost.database", what, "µs", spent["database"], [median(spent["node"])], Target())


def _split(lab: Lab, before: Sequence[int]) -> tuple[list[int], list[int]]:
    """The processes of the bare stack, which was started first and is one worker, and ours."""
    first, *rest = [pid for pid in lab.running if pid not in before]
    return [first], rest


def _processor_s(pids: Sequence[int]) -> float:
    """Of the processes and what they started, as far as it still runs."""
    processes = [each for pid in pids for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    return sum(sum(process.cpu_times()[:2]) for process in processes)
