"""Writes `reference/soak.md`, and its sums in `reliability.md`, from what a full run of `make soak` left in `soak.json`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

from docs.crash_matrix import HERE, SUMMARY, table

FIGURES = HERE / "reference" / "soak.json"
PAGE = HERE / "reference" / "soak.md"
BESIDE = HERE / "reference" / "soak-beside.txt"
"""What else the machine did meanwhile, in one paragraph; there is none where it did nothing."""
BEGIN, END = "<!-- soak -->\n", "<!-- /soak -->\n"

Runs = Sequence[Mapping[str, Any]]

HEAD = """# The soak

Written by `docs/soak.py` from the figures of one full run of `make soak`; [reliability](../reliability.md) says what they mean.

Messages are committed without end, in part by processes that die of it. At random moments, and at random checkpoints, one
node that relays, one that delivers, the processes of their pools, beat, the broker, which keeps nothing, and on PostgreSQL the
database are killed, restarted or frozen for longer than a lease. A second node of each kind is spared and gets old; memory
(resident) and handles are its own, pool included. For part of the run a reader's transaction stays open (*pinned*): SQLite can
then not begin its WAL anew, and PostgreSQL vacuums nothing. The application waits while 150 messages have not ended.

The run fails where the ledger and the rows disagree, where memory, handles or latency of its last quarter are above those of a
quiet part before the reader, where the past that the reader held does not go with it, or where a spared node ended. *p50* and
*p99* are the seconds from the commit to the arrival of messages that nobody refuses on purpose, deaths included, with leases of
2.5 s and a horizon of 1.5 s; *load* is the machine's, whose processors all of this shares.
"""
COLUMNS = {
    "minute": "minute", "enqueued": "enqueued", "delivered": "delivered", "deaths": "deaths", "backlog": "backlog",
    "p50_s": "p50, s", "p99_s": "p99, s", "memory_mb": "memory, MB", "handles": "handles", "wal_mb": "WAL, MB",
    "load": "load",
}  # fmt: skip
BEFORE, AFTER = (0.25, 0.4), (0.75, 1.0)
"""Parts of a run, by the share of its length: before the reader, and long after it."""
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
PAST = {"sqlite": {}, "postgresql": {"past": "dead rows"}}


def page(runs: Runs, beside: str) -> str:
    """The whole page; ``beside``: what else the machine did."""
    return "\n".join([HEAD, *([beside.strip() + "\n"] if beside else []), *(_run(run) for run in runs)])


def summarised(text: str, runs: Runs) -> str:
    """``text`` with the sums of the runs between its marks."""
    before, mark, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{_summary(runs)}\n{END}{after}" if mark else text


def sound(runs: Runs) -> bool:
    """Whether both databases were soaked, and nothing was found wanting."""
    return sorted(run["database"] for run in runs) == sorted(PAST) and not any(run["problems"] or run["lost"] for run in runs)


def _summary(runs: Runs) -> str:
    lengths = {run["length_min"] for run in runs}
    messages, deaths, lost, duplicated = (
        sum(run[name] for run in runs) for name in ("messages", "deaths", "lost", "duplicated")
    )
    return fill(
        f"In the last full soak, of {' and '.join(f'{length:g}' for length in sorted(lengths))} minutes on each database,"
        f" {messages} messages met {deaths} deaths, restarts and standstills. **{lost} were lost**, and {duplicated} second"
        " copies arrived, each on record as an unknown outcome. From before a long-open reader to the last quarter,"
        f" {'; '.join(map(_grown, runs))}. What the reader had held back in the database went with it.",
        width=128,
    )


def _grown(run: Mapping[str, Any]) -> str:
    """The medians of what the run compares."""
    before, after = (
        [one for one in run["minutes"] if begin * run["length_min"] < one["minute"] <= end * run["length_min"]]
        for begin, end in (BEFORE, AFTER)
    )
    memory, handles, latency = (
        f"from {_median(before, name)} to {_median(after, name)}" for name in ("memory_mb", "handles", "p50_s")
    )
    return (
        f"on {NAMES[run['database']]} the nodes that nobody killed went {memory} MB of memory and {handles} open files, and the"
        f" median latency of all messages {latency} s"
    )


def _median(minutes: Runs, name: str) -> str:
    values = [minute[name] for minute in minutes if minute[name] is not None and not minute["pinned"]]
    return f"{median(values):.3g}" if values else "–"


def _run(run: Mapping[str, Any]) -> str:
    columns = COLUMNS | PAST[run["database"]]
    rows = [[*(_cell(minute[name]) for name in columns), "pinned" if minute["pinned"] else ""] for minute in run["minutes"]]
    struck = ", ".join(f"{name} {count} times" for name, count in run["struck"].items())
    told = fill(
        f"{run['messages']} messages in {run['length_min']:g} minutes; {run['deaths']} deaths, {run['at checkpoints']} of them"
        f" at checkpoints, and from without: {struck}. The pool that was killed is {run['killed pool']}, the one spared"
        f" {run['spared pool']}. **{run['lost']} lost**, {run['duplicated']} second copies, all on record;"
        f" {run['rest_s']:g} s from the last death until nothing was left to do. Seed {run['seed']}.",
        width=128,
    )
    return f"## {run['database']}\n\n{told}\n\n{table([*columns.values(), ''], rows)}\n"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _beside() -> str:
    return BESIDE.read_text(encoding="utf-8") if BESIDE.exists() else ""


def written() -> Mapping[Path, str]:
    """What the pages have to say."""
    runs = json.loads(FIGURES.read_text(encoding="utf-8"))["soak"]
    return {PAGE: page(runs, _beside()), SUMMARY: summarised(SUMMARY.read_text(encoding="utf-8"), runs)}


if __name__ == "__main__":
    for file, text in written().items():
        file.write_text(text, encoding="utf-8")
