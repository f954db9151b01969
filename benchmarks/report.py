"""The table that people read, and the file that scripts read."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Figures

PACKAGES = ("celery", "kombu", "redis", "sqlalchemy", "psycopg", "aiohttp")
SETTINGS = {
    "sqlite": "journal_mode=WAL, synchronous=FULL",
    "postgresql": "fsync=on, synchronous_commit=on",
    "worker": "prefork, 2 processes, log level ERROR",
}


def print_table(console: Console, rows: Sequence[Figures]) -> None:
    """Medians with their spread, the ratio, and whether it is what was wanted."""
    table = Table(title="celery-outbox, side by side")
    for heading in ("", "measured", "ours", "theirs", "ratio", "target", "met"):
        is_number = heading in {"ours", "theirs", "ratio"}
        table.add_column(heading, no_wrap=heading != "measured", justify="right" if is_number else "left")
    for row in rows:
        table.add_row(
            row.id, f"{row.what}\n[dim]{row.note}[/dim]" if row.note else row.what,
            _with_spread(row.ours, row.unit), _with_spread(row.theirs, row.unit),
            f"{row.ratio:.2f}×", str(row.target), "[green]yes[/green]" if row.is_met else "[red]no[/red]",
        )  # fmt: skip
    console.print(table)


def write_json(path: Path, rows: Sequence[Figures], *, quick: bool, rounds: int) -> None:
    """Everything of the run, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_as_json(rows, quick=quick, rounds=rounds), indent=2) + "\n")


def _as_json(rows: Sequence[Figures], *, quick: bool, rounds: int) -> dict[str, Any]:
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "rounds": rounds,
        "machine": {
            "cpus": os.cpu_count(),
            "architecture": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in PACKAGES},
        "settings": SETTINGS,
        "rows": [
            {
                "id": row.id,
                "what": row.what,
                "note": row.note,
                "unit": row.unit,
                "ours": median(row.ours),
                "theirs": median(row.theirs),
                "ours_rounds": list(row.ours),
                "theirs_rounds": list(row.theirs),
                "ratio": round(row.ratio, 4),
                "target": str(row.target),
                "met": row.is_met,
            }
            for row in rows
        ],
    }


def _with_spread(values: Sequence[float], unit: str) -> str:
    return f"{median(values):,.4g} {unit}\n[dim]{min(values):,.4g} – {max(values):,.4g}[/dim]"
