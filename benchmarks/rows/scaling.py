"""Several processes at one database: worker nodes beside each other, and web processes that write during delivery."""

import os
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from benchmarks.applications.settings import BATCH_SIZE, BROKER, CONCURRENCY, DATABASE, NAP_S
from benchmarks.lab import PROJECT, Lab
from benchmarks.measuring import Figures, Target, in_turns, percentile
from benchmarks.rows.end_to_end import rate_of_ours
from benchmarks.rows.stacks import running_ours

SLOW_SENDS = {NAP_S: "0.02", BATCH_SIZE: "10", CONCURRENCY: "1"}
WEB_PROCESSES = 4
WEB_PACE_S = 0.02
LONGEST_ENQUEUE_MS = 50.0


def worker_nodes(lab: Lab) -> Iterator[Figures]:
    """scale.2, scale.4: nodes on PostgreSQL whose sends take 20 ms, against one node."""
    count = lab.sized(1_000, 400)
    rates: dict[int, list[float]] = {}
    for nodes in (1, 2, 4):
        with running_ours(lab, "postgresql", workers=nodes, options=SLOW_SENDS) as stack:
            rate_of_ours(stack, 40)
            measured = in_turns(lab.rounds, {"ours": lambda stack=stack: rate_of_ours(stack, count)}, lab.told)  # type: ignore[misc]
            rates[nodes] = measured["ours"]
    for nodes, factor in ((2, 1.8), (4, 3.2)):
        what = f"{nodes} nodes on PostgreSQL, sends of 20 ms, against one node"
        yield Figures(f"scale.{nodes}", what, "/s", rates[nodes], rates[1], Target(at_least=factor))


def writers_during_delivery(lab: Lab) -> Iterator[Figures]:
    """contention: four web processes enqueue on SQLite while a backlog is delivered."""
    backlog, seconds = lab.sized(50_000, 10_000), lab.sized(10, 4)
    p99s: list[float] = []
    with running_ours(lab, "sqlite") as stack:
        environment = {DATABASE: str(stack.outbox.store.engine.url), BROKER: stack.broker}
        for _ in range(lab.rounds):
            stack.load(backlog)
            stack.go()
            p99s.append(percentile(_web_processes(environment, seconds), 99))
            lab.told()
    what = f"p99 of a transaction of {WEB_PROCESSES} web processes on SQLite during delivery, against what is allowed"
    note = f"median of rounds {median(p99s):.1f} ms; any 'database is locked' would have ended the run"
    yield Figures("contention", what, "ms", p99s, [LONGEST_ENQUEUE_MS], Target(at_most=1), note)


def _web_processes(environment: dict[str, str], seconds: float) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.applications.web", str(seconds), str(WEB_PACE_S)]
    processes = [
        subprocess.Popen(command, cwd=PROJECT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
        for _ in range(WEB_PROCESSES)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), "a web process failed"
    return [float(took) for output in outputs for took in output.split()]
