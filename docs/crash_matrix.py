"""Writes `reference/crash-matrix.md`, and its sums in `reliability.md`, from what a full run left in `crash-matrix.json`."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from textwrap import fill
from types import ModuleType
from typing import Any

from tests.crash.application import CLOCKS, TICK_S, TIMEOUT_S

HERE = Path(__file__).parent
FIGURES = HERE / "reference" / "crash-matrix.json"
PAGE = HERE / "reference" / "crash-matrix.md"
SUMMARY = HERE / "reliability.md"
BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->\n"

Lines = Sequence[Mapping[str, Any]]

HEAD = """# The crash matrix

Written by `docs/crash_matrix.py` from the figures of one full run of `make test-crash`; [reliability](../reliability.md) says
what they mean. *Recovered* is the time from the last death of a run until none of its messages had anything left to do. Times
are those of shortened clocks, told below: they show what waits for what, and are not those of an installation.
"""
CLOCKS_HEAD = fill(
    f"Relay and maintenance pass every {TICK_S:g} s, where an installation has 1 and 5 s, and a send has {TIMEOUT_S:g} s. The"
    " nodes start with these constants changed, so that what comes back by time comes back while a test waits. A rescue delay"
    " of 0 is the harder case: an installation gives an outcome that is late some seconds to come first.",
    width=128,
)


def page(figures: Mapping[str, Lines]) -> str:
    """The whole page."""
    by_checkpoint: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for line in figures["crash"]:
        by_checkpoint[line["checkpoint"]].append(line)
    matrix = [_sum(checkpoint, lines) for checkpoint, lines in by_checkpoint.items()]
    recovery = [
        [str(line[name]) for name in ("dies", "database", "pool", "median_s", "longest_s", "wanted")]
        for line in sorted(figures["recovery"], key=lambda line: (line["dies"], line["database"], line["pool"]))
    ]
    return "\n".join(
        [
            HEAD,
            _by_database(figures["crash"]),
            "\nBy checkpoint, over both databases and both pools, with the longest recovery:\n",
            table(("checkpoint", "runs", "kills", "messages", "lost", "duplicated", "recovered, s"), matrix),
            "\n## How long until what a dead process held goes on\n",
            "Seconds from the death to the next arrival, over five deaths each.\n",
            table(("who dies", "database", "pool", "median", "longest", "wanted: at most"), recovery),
            "\n## The clocks of these runs\n",
            f"{CLOCKS_HEAD}\n",
            table(("constant", "in production", "here"), [_clock(*clock) for clock in CLOCKS]),
            "",
        ]
    )


def summarised(text: str, figures: Mapping[str, Lines]) -> str:
    """``text`` with the sums of the run between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{_summary(figures['crash'])}\n\n{_by_database(figures['crash'])}\n{END}{after}"


def _summary(lines: Lines) -> str:
    kills, messages, lost, duplicated = _sums(lines)
    checkpoints = len({line["checkpoint"] for line in lines})
    return fill(
        f"In the last full run, {len(lines)} cells at {checkpoints} places, {kills} processes and nodes died over {messages}"
        f" messages. **{lost} were lost**, and {duplicated} second copies arrived, each on record as an unknown outcome.",
        width=128,
    )


def _by_database(lines: Lines) -> str:
    """What each database has to show for itself."""
    rows = []
    for database in sorted({line["database"] for line in lines}, reverse=True):
        here = [line for line in lines if line["database"] == database]
        times = [line["recovery_s"] for line in here]
        counts = [str(count) for count in (len(here), *_sums(here))]
        rows.append([database, *counts, f"{median(times):.2f}", f"{max(times):.2f}"])
    names = ("database", "runs", "kills", "messages", "lost", "duplicated", "recovered, median s", "recovered, worst s")
    return table(names, rows)


def _clock(module: ModuleType, name: str, here: float) -> list[str]:
    return [f"`{module.__name__}.{name}`", f"{getattr(module, name):g}", f"{here:g}"]


def _sums(lines: Lines) -> tuple[int, ...]:
    return tuple(sum(line[name] for line in lines) for name in ("kills", "messages", "lost", "duplicated"))


def _sum(checkpoint: str, lines: Lines) -> list[str]:
    counts = [str(count) for count in _sums(lines)]
    return [f"`{checkpoint}`", str(len(lines)), *counts, str(max(line["recovery_s"] for line in lines))]


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of the page."""
    return "\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    PAGE.write_text(page(found), encoding="utf-8")
    SUMMARY.write_text(summarised(SUMMARY.read_text(encoding="utf-8"), found), encoding="utf-8")
