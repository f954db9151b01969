"""The table that people read, and the file that scripts read."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.measuring import Figures, spread
from benchmarks.surroundings import MACHINE, PEER_SETTINGS, SETTINGS, VERSIONS

MET = {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}


def print_table(console: Console, rows: Sequence[Figures]) -> None:
    """Medians with their spread, the ratio, and whether it is what was wanted."""
    table = Table(title="celery-outbox, side by side")
    for heading in ("", "measured", "ours", "theirs", "ratio", "target", "met"):
        is_number = heading in {"ours", "theirs", "ratio"}
        table.add_column(heading, no_wrap=heading != "measured", justify="right" if is_number else "left")
    for row in rows:
        table.add_row(
            row.id, _described(row), _with_spread(row.ours, row.unit), _with_spread(row.theirs, row.unit),
            "" if row.ratio is None else f"{row.ratio:.2f}×", str(row.target), MET[row.is_met],
        )  # fmt: skip
    console.print(table)


class NotAlike(Exception):
    """Figures that were measured otherwise may not stand in one file; the text tells how they differ."""


def kept_rows(path: Path, *, quick: bool, rounds: int) -> list[dict[str, Any]]:
    """The rows that a file holds so far, those of another machine with that machine, for only their ratios compare.

    Raises :class:`NotAlike` unless they were measured as the next ones will be.
    """
    if not path.exists():
        return []
    there = json.loads(path.read_text())
    here = json.loads(json.dumps(_measured(quick=quick, rounds=rounds)))
    differing = [name for name in here if name != "machine" and there.get(name) != here[name]]
    if differing:
        raise NotAlike(
            f"{path} was measured with other {', '.join(differing)}: leave --keep out, or name another file with --json"
        )
    return [_placed({"machine": there["machine"], **row}, here["machine"]) for row in there["rows"]]


def _placed(row: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """The row, which tells its machine only if that is not the one of the file."""
    return row if row["machine"] != here else {name: value for name, value in row.items() if name != "machine"}


def write_json(path: Path, rows: Sequence[Figures], *, quick: bool, rounds: int, kept: Sequence[dict[str, Any]] = ()) -> None:
    """Everything of the run, as JSON, behind those of ``kept`` that were not measured again."""
    measured = [as_row(row) for row in rows]
    again = {row["id"] for row in measured}
    results = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **_measured(quick=quick, rounds=rounds),
        "rows": [*(row for row in kept if row["id"] not in again), *measured],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def _measured(*, quick: bool, rounds: int) -> dict[str, Any]:
    """How, where and with what."""
    return {
        "quick": quick,
        "rounds": rounds,
        "machine": MACHINE,
        "versions": VERSIONS,
        "settings": SETTINGS,
        "peers": PEER_SETTINGS,
    }


def as_row(row: Figures) -> dict[str, Any]:
    """One line of the table, as JSON."""
    return {
        "id": row.id,
        "what": row.what,
        "note": row.note,
        "unit": row.unit,
        "ours": median(row.ours),
        "theirs": median(row.theirs) if row.theirs else None,
        "spread": {"ours": _rounded(spread(row.ours)), "theirs": _rounded(spread(row.theirs))},
        "ours_rounds": list(row.ours),
        "theirs_rounds": list(row.theirs),
        "ratio": _rounded(row.ratio),
        "target": str(row.target) or None,
        "target_at_least": row.target.at_least,
        "target_at_most": row.target.at_most,
        "met": row.is_met,
        "error": row.error or None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _described(row: Figures) -> str:
    parts = [row.what]
    if row.note:
        parts.append(f"[dim]{escape(row.note)}[/dim]")
    if row.error:
        parts.append(f"[red]{escape(row.error[-300:])}[/red]")
    return "\n".join(parts)


def _with_spread(values: Sequence[float], unit: str) -> str:
    return f"{median(values):,.4g} {unit}\n[dim]{min(values):,.4g} – {max(values):,.4g}[/dim]" if values else "–"
