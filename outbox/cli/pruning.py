"""``outbox prune``: deletes what is over and has been kept long enough."""

from collections.abc import Sequence

import click
from rich.console import Console
from rich.progress import Progress

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.parameters import duration, json_option
from outbox.lifecycle import TERMINAL, Status
from outbox.maintenance import BATCH
from outbox.policy.retention import Retention
from outbox.store.sqlstore import SQLStore


@click.command(epilog="Example: outbox prune --delivered-older-than 48h --failed-older-than 30d --dry-run")
@click.option(
    "--delivered-older-than", "delivered_s", type=duration, show_default="what the outbox or the channel says, else 48h",
    help="Delete delivered messages that old.",
)  # fmt: skip
@click.option(
    "--failed-older-than", "failed_s", type=duration, show_default="what the outbox or the channel says, else 30d",
    help="Delete failed, expired and cancelled messages that old.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only count.")
@json_option
@pass_access
def prune(access: Access, delivered_s: float | None, failed_s: float | None, dry_run: bool, as_json: bool) -> None:
    """Delete messages that have ended and were kept long enough, with their attempts.

    Messages that are not over, parked ones included, are never deleted. Maintenance does the same from the schedule.
    """
    outbox = access.open(with_channels=True)
    _changed(outbox.maintenance.retention, delivered_s, failed_s)  # refused even where nothing is kept
    counts = dict.fromkeys(sorted(TERMINAL), 0)
    lanes = [
        (kept.channel, kept.status, _changed(outbox.maintenance.retention_of(kept.channel), delivered_s, failed_s))
        for kept in outbox.store.completed()
    ]
    for channel, status, retention in lanes:
        counts[status] += outbox.store.prunable(channel, status, retention.kept_ms(status))
    if not dry_run:
        counts = _prune(outbox.store, lanes, sum(counts.values()))
    if as_json:
        printing.print_json({str(status): count for status, count in counts.items()})
        return
    for status, count in counts.items():
        printing.line(f"{count:,} {status} {'would be deleted' if dry_run else 'deleted'}")


def _prune(store: SQLStore, lanes: Sequence[tuple[str, Status, Retention]], expected: int) -> dict[Status, int]:
    counts = dict.fromkeys(sorted(TERMINAL), 0)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("pruning", total=expected)
        for channel, status, retention in lanes:
            while deleted := store.prune(channel, status, retention.kept_ms(status), BATCH):
                counts[status] += deleted
                progress.advance(bar, deleted)
    return counts


def _changed(retention: Retention, delivered_s: float | None, failed_s: float | None) -> Retention:
    """The retention with what the options say in its place."""
    delivered_ms = retention.delivered_ms if delivered_s is None else round(delivered_s * 1000)
    failed_ms = retention.failed_ms if failed_s is None else round(failed_s * 1000)
    if failed_ms < delivered_ms:
        raise click.UsageError("failures are kept at least as long as deliveries: raise --failed-older-than")
    return Retention(delivered_ms, failed_ms)
