"""What the commands print: tables for people, JSON for programs. Nothing that a message holds can steer the terminal."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import humanize
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from outbox.facts import iso
from outbox.policy.printable import escaped

_UNLIMITED_COLUMNS = 10_000


def line(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(f"{escaped(text)}\n")


def note(text: str) -> None:
    """One line for the person at the terminal, on standard error: never part of the data."""
    sys.stderr.write(f"{escaped(text)}\n")


def print_json(value: Any) -> None:
    """One JSON document. ASCII only, so that no terminal and no locale can change its meaning."""
    sys.stdout.write(f"{json.dumps(value, indent=2)}\n")


def print_json_line(value: Any) -> None:
    """One JSON document in one line, at once: one of many."""
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: Sequence[str] = ()) -> None:
    """A table of texts; the columns named in ``whole`` are never cut. Wide lines stay whole where no terminal shows them."""
    _print(table_of(columns, rows, whole=whole))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: Sequence[str] = ()) -> Table:
    """The table of :func:`print_table`, for whoever draws it otherwise. A rich ``Text`` in a cell keeps its style."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column in whole, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text("" if cell is None else escaped(cell)) for cell in row))
    return table


def print_facts(facts: Mapping[str, object]) -> None:
    """One thing, a line for each fact that is known."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value is not None:
            table.add_row(Text(name), Text(escaped(value)))
    _print(table)


def heading(text: str) -> None:
    """A title between two tables."""
    _print(Text(f"\n{escaped(text)}", style="bold"))


def when(moment_ms: int | None, now_ms: int) -> str | None:
    """A moment for people: ``2026-11-23T06:22:01.250Z (12 seconds ago)``."""
    if moment_ms is None:
        return None
    try:
        now, moment = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (now_ms, moment_ms))
    except (OverflowError, ValueError, OSError):
        return iso(moment_ms)
    return f"{iso(moment_ms)} ({humanize.naturaltime(moment, when=now)})"


def span(duration_ms: float) -> str:
    """A duration for people: ``12 seconds``."""
    return humanize.naturaldelta(timedelta(milliseconds=duration_ms))


def _print(what: RenderableType) -> None:
    """Render for the terminal, or in whole lines where there is none; cells are padded, lines need not be."""
    width = None if Console().is_terminal else _UNLIMITED_COLUMNS
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as rendered:
        console.print(what)
    sys.stdout.writelines(f"{text.rstrip()}\n" for text in rendered.get().splitlines())
