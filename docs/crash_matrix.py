"""Writes `reference/crash-matrix.md`, and its sums in `reliability.md`, from what a full run left in `crash-matrix.json`."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

HERE = Path(__file__).parent
FIGURES = HERE / "reference" / "crash-matrix.json"
PAGE = HERE / "reference" / "crash-matrix.md"
SUMMARY = HERE / "reliability.md"
BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->\n"

Lines = Sequence[Mapping[str, Any]]

HEAD = """# The crash matrix

Written by `docs/crash_matrix.py` from the figures of one full run of `make test-crash`; [reliability](../reliability.md) says
what they mean. Each line sums the runs of one checkpoint over both databases and both pools; *recovered* is the longest time
from the last death of a run until none of its messages had anything left to do, with leases of 2.5 s and a horizon of 1.5 s.
"""


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
            table(("checkpoint", "runs", "kills", "messages", "lost", "duplicated", "recovered, s"), matrix),
            "\n## How long until what a dead process held goes on\n",
            "Seconds from the death to the next arrival, over five deaths each.\n",
            table(("who dies", "database", "pool", "median", "longest", "wanted: at most"), recovery),
            "",
        ]
    )


def summarised(text: str, figures: Mapping[str, Lines]) -> str:
    """``text`` with the sums of the run between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{_summary(figures['crash'])}\n{END}{after}"


def _summary(lines: Lines) -> str:
    kills, messages, lost, duplicated = _sums(lines)
    checkpoints = len({line["checkpoint"] for line in lines})
    return fill(
        f"In the last full run, {len(lines)} cells at {checkpoints} places, {kills} processes and nodes died over {messages}"
        f" messages. **{lost} were lost**, and {duplicated} second copies arrived, each on record as an unknown outcome.",
        width=128,
    )


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
