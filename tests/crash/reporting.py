"""What the matrix and the stop-watch found, to be read in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """One line a result, one column a figure; what is a list is told by the test itself."""
    names = [name for name, value in results[0].items() if not isinstance(value, list)]
    rows = [[name.replace("_s", ", s") for name in names], *([str(result[name]) for name in names] for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def sums(results: Sequence[Mapping[str, Any]]) -> str:
    """The matrix in one line."""
    total = {name: sum(result[name] for result in results) for name in ("kills", "messages", "lost", "duplicated")}
    longest = max(result["recovery_s"] for result in results)
    return f"{len(results)} runs, " + ", ".join(f"{count} {name}" for name, count in total.items()) + f", at most {longest} s"


def told(soak: Mapping[str, Any]) -> str:
    """All of a soak but its minutes, a line each."""
    return "\n".join(f"{name.replace('_s', ', s')}: {value}" for name, value in soak.items() if name != "minutes")


def line(figures: Mapping[str, Any]) -> str:
    """Figures on one line, while there is no table yet."""
    return "  ".join(f"{name} {value}" for name, value in figures.items())
