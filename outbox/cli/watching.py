"""``outbox watch``: counts and gates, looked at again and again."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.parameters import json_option, positive_duration
from outbox.cli.status import GATE_COLUMNS, gate_rows
from outbox.cli.stopping import StopSignals
from outbox.errors import OutboxError
from outbox.facts import iso, record_facts
from outbox.lifecycle import Status
from outbox.policy.printable import escaped
from outbox.store.protocol import Store
from outbox.store.records import Count, Gate

MOST = 10_000
"""Counts stop here, so that a look costs the same however many messages are kept."""


@dataclass(frozen=True)
class Look:
    """What there was to see at one moment. Times are epoch milliseconds."""

    at_ms: int
    counts: Mapping[str, Mapping[Status, Count]]
    oldest_due_at: Mapping[str, int]
    gates: Sequence[Gate]


class View(Protocol):
    """Where looks are shown."""

    def show(self, look: Look) -> None:
        """Show what there was to see."""

    def fail(self, reason: str) -> None:
        """Show why there was nothing to see this time."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


@click.command(epilog="\b\nExamples:\n  outbox watch --interval 500ms\n  outbox watch --json | jq -c '.channels[]?.counts'")
@click.option(
    "--interval", "every_s", type=positive_duration, metavar="DURATION", default="2s", show_default=True,
    help="Look that often.",
)  # fmt: skip
@json_option
@pass_access
def watch(access: Access, every_s: float, as_json: bool) -> None:
    """Watch messages move: counts by channel and status, what changed since the last look, and what is closed.

    A count stops at 10,000+. A database that goes out of reach is waited for. Ctrl-C ends it. With --json every
    look is one line.
    """
    if not as_json and not sys.stdout.isatty():
        raise click.UsageError("there is no terminal to draw on: add --json, which prints a line for each look")
    store = access.open().store
    with StopSignals(said=b"") as stop:
        first = look(store)
        view: View = _Lines() if as_json else _Screen(every_s)
        try:
            view.show(first)
            while not stop.wait(every_s):
                try:
                    view.show(look(store))
                except (OutboxError, SQLAlchemyError) as error:
                    view.fail(str(error))
        finally:
            view.close()


def look(store: Store) -> Look:
    """One look at the outbox."""
    counts: dict[str, dict[Status, Count]] = {}
    for count in store.census(MOST):
        counts.setdefault(count.channel, {})[count.status] = count
    oldest: dict[str, int] = {}
    for lane in store.pending(sorted(counts)).lanes:
        oldest[lane.channel] = min(lane.oldest_due_at, oldest.get(lane.channel, lane.oldest_due_at))
    return Look(store.now_ms(), counts, oldest, store.gates())


class _Lines:
    """A JSON document in one line for each look."""

    def show(self, look: Look) -> None:
        channels = [_channel_facts(look, channel) for channel in look.counts]
        printing.print_json_line({"at": iso(look.at_ms), "channels": channels, "gates": [*map(record_facts, look.gates)]})

    def fail(self, reason: str) -> None:
        printing.print_json_line({"error": reason})

    def close(self) -> None:
        """There is nothing to give back."""


def _channel_facts(look: Look, channel: str) -> dict[str, object]:
    counts = look.counts[channel]
    due_at = look.oldest_due_at.get(channel)
    return {
        "channel": channel,
        "counts": {str(one): counts[one].rows if one in counts else 0 for one in Status},
        "at_least": [str(one) for one, count in counts.items() if count.at_least],
        "oldest_due_age_ms": None if due_at is None else max(0, look.at_ms - due_at),
    }


class _Screen:
    """A table on the terminal, drawn over by the next; the last one stays."""

    def __init__(self, every_s: float) -> None:
        self._title = f"every {every_s:g} s, Ctrl-C ends"
        self._before: Look | None = None
        self._met: set[Status] = set()
        """Statuses that have had a message: their columns stay, so that the table does not jump."""
        self._live = Live(console=Console(highlight=False, markup=False, emoji=False), auto_refresh=False)
        self._live.start()

    def show(self, look: Look) -> None:
        self._draw(look, Text(f"{iso(look.at_ms)}  {self._title}", style="dim"))
        self._before = look

    def fail(self, reason: str) -> None:
        if self._before is not None:
            self._draw(self._before, Text(escaped(reason), style="bold red"))

    def close(self) -> None:
        self._live.stop()

    def _draw(self, look: Look, title: Text) -> None:
        parts: list[RenderableType] = [title, Text(), self._counts(look)]
        if look.gates:
            gates = printing.table_of(GATE_COLUMNS, gate_rows(look.gates, look.at_ms))
            parts += [Text("\nclosed", style="bold"), gates]
        self._live.update(Group(*parts), refresh=True)

    def _counts(self, look: Look) -> RenderableType:
        if not look.counts:
            return Text("no messages")
        self._met.update(*look.counts.values())
        columns = [one for one in Status if one in self._met]
        rows = (
            [channel, *(self._cell(counts.get(one), channel, one) for one in columns), _age(look, channel)]
            for channel, counts in look.counts.items()
        )
        return printing.table_of(["channel", *columns, "oldest due"], rows, whole=["channel"])

    def _cell(self, count: Count | None, channel: str, status: Status) -> Text:
        """The count, and by how much it has changed; a count that stopped does not tell."""
        rows = 0 if count is None else count.rows
        cell = Text(f"{rows:,}{'+' if count and count.at_least else ''}")
        if self._before is None or (count and count.at_least):
            return cell
        before = self._before.counts.get(channel, {}).get(status)
        change = rows - (before.rows if before else 0)
        return cell.append(f" {change:+,}", style="cyan") if change else cell


def _age(look: Look, channel: str) -> str:
    due_at = look.oldest_due_at.get(channel)
    return "" if due_at is None else f"{printing.span(max(0, look.at_ms - due_at))} ago"
