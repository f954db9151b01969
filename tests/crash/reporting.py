"""What the matrix found, as a table that can be read."""

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = {
    "database": "database", "pool": "pool", "checkpoint": "checkpoint", "kills": "kills", "messages": "messages",
    "lost": "lost", "duplicated": "duplicated", "recovery_s": "recovered in s",
}  # fmt: skip


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """One line a cell, and the sums below."""
    sums = {name: sum(result[name] for result in results) for name in ("kills", "messages", "lost", "duplicated")}
    longest = max(result["recovery_s"] for result in results)
    last = {"database": "", "pool": "", "checkpoint": f"{len(results)} runs", **sums, "recovery_s": longest}
    rows = [list(COLUMNS.values()), *([str(line[name]) for name in COLUMNS] for line in (*results, last))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
