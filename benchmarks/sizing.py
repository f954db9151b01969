"""How much is needed for so many messages a second: `python -m benchmarks.sizing RATE...`

The model is arithmetic on what was measured, processor time a message of nodes and database, and on the counts of commits and
broker messages that the tests hold exact. What it knows nothing of (your sends, your hosts) are its arguments.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results" / "latest.json"
CLAIMED_AT_ONCE = 500
"""Rows of one look of the relay."""
COMMITS_A_LOOK = 2
"""Those that write: what is new is stamped, what is due is claimed."""
BUSY = 0.7
"""The share of a processor that may be spoken for: above it, queues grow at every gust."""
COMMITS_A_SECOND = 2_000.0
"""What one database flushes to its disk, where one commit waits for another: from an ordinary SSD. Measure yours."""


@dataclass(frozen=True)
class Costs:
    """Of one message, in seconds of a processor."""

    node_s: float
    database_s: float


@dataclass(frozen=True)
class Work:
    """How messages are sent."""

    send_s: float = 0.0
    """How long one send takes, most of it waiting."""
    batch_size: int = 100
    concurrency: int = 50
    """Sends under way at once in one process, of the same task."""
    processes: int = 2
    """Worker processes a node."""
    cores: float = 2.0
    """Of a node."""


@dataclass(frozen=True)
class Plan:
    """What a rate takes."""

    rate: float
    nodes: int
    node_rate: float
    """Messages a second that one node can do."""
    limited_by: str
    """What a node runs out of first: ``processor`` or ``sends``."""
    database_cores: float
    commits: float
    """A second, of relay and deliveries; those of the application that enqueues are its own."""
    broker_messages: float
    """A second."""
    database_suffices: bool
    """Whether one database flushes so many commits."""


def commits_a_message(work: Work) -> float:
    """One take, one settle with each further take, one last settle; and the relay's look, spread over what it finds."""
    windows = ceil(work.batch_size / work.concurrency)
    return (windows + 1) / work.batch_size + COMMITS_A_LOOK / CLAIMED_AT_ONCE


def node_rate(costs: Costs, work: Work) -> tuple[float, str]:
    """Messages a second of one node, and what it runs out of first."""
    by_processor = work.cores / costs.node_s
    in_flight = work.processes * min(work.concurrency, work.batch_size)
    by_sends = in_flight / (work.send_s + costs.node_s)
    return (by_processor, "processor") if by_processor <= by_sends else (by_sends, "sends")


def plan(rate: float, costs: Costs, work: Work | None = None) -> Plan:
    """Nodes, database and broker for ``rate`` messages a second, with room for gusts."""
    work = work or Work()
    each, limited_by = node_rate(costs, work)
    commits = rate * commits_a_message(work)
    return Plan(
        rate=rate,
        nodes=max(1, ceil(rate / (each * BUSY))),
        node_rate=each,
        limited_by=limited_by,
        database_cores=rate * costs.database_s / BUSY,
        commits=commits,
        broker_messages=rate / work.batch_size,
        database_suffices=commits <= COMMITS_A_SECOND,
    )


def scaled(nodes: int, costs: Costs, work: Work, *, shared_cores: float) -> float:
    """Messages a second of ``nodes`` on one machine, database and all: until its processors are used up."""
    apart = nodes * node_rate(costs, work)[0]
    return min(apart, shared_cores / (costs.node_s + costs.database_s))


def measured(results: dict[str, Any]) -> Costs:
    """What a run measured. Raises :class:`KeyError` where it did not."""
    rows = {row["id"]: row["ours"] for row in results["rows"]}
    return Costs(rows["cost.node"] / 1e6, rows["cost.database"] / 1e6)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("rates", nargs=-1, required=True, type=click.FloatRange(min=0, min_open=True))
@click.option("--send-ms", default=50.0, show_default=True, help="How long one send takes.")
@click.option("--batch-size", default=100, show_default=True, help="Messages a delivery task.")
@click.option("--concurrency", default=50, show_default=True, help="Sends under way at once in one process.")
@click.option("--processes", default=2, show_default=True, help="Worker processes a node.")
@click.option("--cores", default=2.0, show_default=True, help="Processors of a node.")
@click.option("--json", "path", type=click.Path(path_type=Path, exists=True), default=RESULTS, show_default=True)
def main(
    rates: Sequence[float], send_ms: float, batch_size: int, concurrency: int, processes: int, cores: float, path: Path
) -> None:
    """What RATES of messages a second take, by the figures of the last `make bench`."""
    costs = measured(json.loads(path.read_text(encoding="utf-8")))
    work = Work(send_ms / 1000, batch_size, concurrency, processes, cores)
    table = Table(*HEADINGS)
    for rate in rates:
        table.add_row(*cells(plan(rate, costs, work)))
    Console().print(table)


HEADINGS = (
    "messages/s",
    "nodes",
    "a node can do",
    "runs out of",
    "database cores",
    "commits/s",
    "broker messages/s",
    "one database",
)


def cells(planned: Plan) -> tuple[str, ...]:
    """A line of the table."""
    return (
        f"{planned.rate:,.0f}", f"{planned.nodes}", f"{planned.node_rate:,.0f}/s", planned.limited_by,
        f"{planned.database_cores:.1f}", f"{planned.commits:,.0f}", f"{planned.broker_messages:,.1f}",
        "enough" if planned.database_suffices else "too slow: see below",
    )  # fmt: skip


if __name__ == "__main__":
    main()
