"""``outbox db``: the schema."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from outbox.cli import printing
from outbox.cli.context import Access, pass_access, require_file
from outbox.cli.parameters import json_option
from outbox.outbox import Outbox
from outbox.store import copying, migrating
from outbox.store.migrating import SchemaState


@click.group()
def db() -> None:
    """The database's schema."""


@db.command(epilog="Example: outbox --database sqlite:///app.db db upgrade")
@json_option
@pass_access
def upgrade(access: Access, as_json: bool) -> None:
    """Create the tables, or bring them to this release's schema.

    Safe while the previous release still runs, and for any number of processes at once.
    """
    store = access.open(may_create=True).store
    before = migrating.state(store)
    after = migrating.upgrade(store)
    if as_json:
        printing.print_json({"before": before.current, "after": after.current})
    elif before.is_current:
        printing.line(f"schema {after.current}: nothing to do")
    else:
        printing.line(f"schema {after.current}: upgraded from {before.current or 'an empty database'}")


@db.command(epilog="Example: outbox --app shop.messages:outbox db check")
@json_option
@click.pass_context
@pass_access
def check(access: Access, context: click.Context, as_json: bool) -> None:
    """Tell whether the database has this release's schema; exit status 1 if not."""
    store = access.open().store
    state = migrating.state(store)
    if as_json:
        printing.print_json(_facts(state))
        context.exit(0 if state.is_current else 1)
    state.require_current(store.tables.messages.name)
    printing.line(f"schema {state.current}: current")


@db.command(epilog="Example: outbox db copy sqlite:///app.db postgresql://app@db/shop")
@click.argument("source_url", metavar="FROM_URL")
@click.argument("target_url", metavar="TO_URL")
@click.option(
    "--batch", "batch_size", metavar="N", type=click.IntRange(1, 10_000), default=1_000, show_default=True,
    help="Rows that are copied in one transaction.",
)  # fmt: skip
@click.option(
    "--even-if-live", is_flag=True, help="Copy messages that are dispatched or being sent as well; they will be sent again."
)
@json_option
@pass_access
def copy(
    access: Access, source_url: str, target_url: str, batch_size: int, even_if_live: bool, as_json: bool
) -> None:  # fmt: skip
    """Copy the outbox in FROM_URL into TO_URL, with all that is recorded, and verify it.

    Stop the application, beat and the workers first: while it is copied nobody can write to it. Run again after an
    interruption it goes on. A target that has other messages is refused.
    """
    source, target = (Outbox(url, table_name=access.table) for url in (source_url, target_url))
    with closing(source), closing(target), _shown() as on_progress:
        require_file(source)
        counts = copying.copy(
            source.store, target.store, batch_size=batch_size, even_if_live=even_if_live, on_progress=on_progress
        )
    if as_json:
        printing.print_json(counts)
    else:
        printing.print_facts({table: f"{rows:,}" for table, rows in counts.items()})


@contextmanager
def _shown() -> Iterator[copying.OnProgress]:
    """A bar for each table, where somebody is watching."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def show(table: str, copied: int, total: int) -> None:
            if table not in tasks:
                tasks[table] = bar.add_task(table, total=total)
            bar.update(tasks[table], completed=copied)

        yield show


def _facts(state: SchemaState) -> dict[str, object]:
    return {**asdict(state), "is_current": state.is_current}
