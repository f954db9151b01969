"""``outbox import-legacy``: brings in the messages of a file-based delivery queue."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.parameters import json_option, positive_duration
from outbox.legacy import Left, Phase, Progress, Summary, import_directory
from outbox.legacy.importing import DEFAULT_ARCHIVE
from outbox.legacy.summary import OnProgress

FOUND = 1

_EPILOG = """\b
Examples:
  outbox --channels channels.toml import-legacy ~/.gateway/delivery-queue --dry-run
  outbox --channels channels.toml import-legacy ~/.gateway/delivery-queue --archive /var/backups/delivery-queue
  outbox import-legacy ./delivery-queue --ttl 2h --no-failed

\b
Exit status: 0 everything was imported, 1 a file was refused or could not be archived, 2 used wrongly."""


@click.command("import-legacy", epilog=_EPILOG)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Change nothing, and say what an import would come to.")
@click.option(
    "--archive", metavar="DIR", type=click.Path(path_type=Path), show_default=f"{DEFAULT_ARCHIVE}/ in the queue's directory",
    help="Where files go, byte for byte, once their messages are committed and read back.",
)  # fmt: skip
@click.option(
    "--ttl", "ttl_s", type=positive_duration, metavar="DURATION", show_default="the channel's, else 30m",
    help="Keep older entries as expired, and do not send them.",
)  # fmt: skip
@click.option(
    "--no-failed", "include_failed", flag_value=False, default=True, help="Leave the dead letters in failed/ alone.",
)  # fmt: skip
@json_option
@pass_access
def import_legacy(
    access: Access, directory: Path, archive: Path | None, ttl_s: float | None, include_failed: bool, dry_run: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Import the file-based delivery queue in DIR, once: run it again after an interruption, and as often as you like.

    Stop the old gateway first. With --channels or --app, entries are checked against their channel and get its policy.
    """
    outbox = access.open(with_channels=True)
    with _shown() as on_progress:
        summary = import_directory(
            outbox, directory, archive=archive, ttl_s=ttl_s, include_failed=include_failed, dry_run=dry_run,
            on_progress=on_progress,
        )  # fmt: skip
    if as_json:
        printing.print_json(asdict(summary))
    else:
        _print(summary)
    return 0 if summary.is_clean else FOUND


@contextmanager
def _shown() -> Iterator[OnProgress]:
    """A bar for each phase, where somebody is watching."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[Phase, TaskID] = {}

        def show(progress: Progress) -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bar.add_task(str(progress.phase), total=progress.total)
            bar.update(tasks[progress.phase], completed=progress.done)

        yield show


def _print(summary: Summary) -> None:
    printing.print_facts(
        {
            "imported": f"{summary.imported:,}",
            "expired": f"{summary.expired:,}",
            "dead": f"{summary.dead:,}",
            "already sent": f"{summary.already_sent:,}",
            "already imported": f"{summary.already_imported:,}",
            "refused": f"{len(summary.refused):,}",
            "messages": f"{summary.messages:,}",
        }
    )
    _print_left("refused, and left where they are", summary.refused)
    _print_left("imported, and yet not archived", summary.not_archived)
    _print_left("no entries, and left alone", summary.ignored)
    if summary.dry_run:
        printing.note("a dry run: nothing was changed")


def _print_left(title: str, files: Sequence[Left]) -> None:
    if files:
        printing.heading(title)
        printing.print_table(("file", "reason"), [(file.name, file.reason) for file in files], whole=("file",))
