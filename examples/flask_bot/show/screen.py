"""What is seen: progress while it goes on, and at its end a table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.flask_bot.show.audit import Findings
from outbox.store.records import ChannelStats

SHOWN_PROBLEMS = 20


class Screen:
    """Lines that stay, and below them bars that move where there is a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self._console,
            transient=True,
        )

    def say(self, line: str, style: str = "dim") -> None:
        """Print a line; may be called from any thread."""
        self._console.print(line, style=style, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, total: int) -> Iterator["Bars"]:
        """Show the bars while the block runs."""
        bars = Bars(self._progress, total)
        with self._progress:
            yield bars

    def show(self, findings: Findings) -> None:
        """Print the table, and what is wrong."""
        table = Table(title="What was committed, and what arrived", title_justify="left", show_header=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        table.add_column(style="dim")
        for row in _rows(findings):
            table.add_row(*row)
        self._console.print(table)
        for problem in findings.problems[:SHOWN_PROBLEMS]:
            self.say(problem, style="bold red")
        if len(findings.problems) > SHOWN_PROBLEMS:
            self.say(f"… and {len(findings.problems) - SHOWN_PROBLEMS} more", style="bold red")
        if not findings.problems:
            self.say("Every committed answer arrived, signed, in order; nothing that was rolled back did.", style="bold green")


class Bars:
    """Two bars: answers that the bot committed, and answers that the receiver has accepted."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._committed = progress.add_task("committed", total=total, note="")
        self._delivered = progress.add_task("delivered", total=total, note="")

    def update(self, committed: int, delivered: int, stats: Sequence[ChannelStats]) -> None:
        """Move on."""
        counts = {str(status): rows for channel in stats for status, rows in channel.by_status.items()}
        counts.pop("delivered", None)
        self._progress.update(self._committed, completed=committed)
        self._progress.update(
            self._delivered, completed=delivered, note=", ".join(f"{rows} {status}" for status, rows in counts.items())
        )


def _rows(findings: Findings) -> Sequence[tuple[str, str, str]]:
    return [
        ("committed", str(findings.committed), "answers of which the bot said 201"),
        ("delivered", str(findings.delivered), "accepted by the receiver, signature verified"),
        ("rolled back", str(findings.rolled_back), "enqueued in a request that then failed"),
        ("retried", str(findings.retried), "needed more than one attempt"),
        ("duplicates", str(findings.duplicates), "arrived once more, with the same idempotency key"),
        ("lost", str(findings.lost), ""),
        ("p50", _duration(findings.median_s), "from commit to receipt"),
        ("p95", _duration(findings.slow_s), ""),
    ]


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
