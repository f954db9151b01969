"""``outbox db``: the schema."""

from dataclasses import asdict

import click

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.parameters import json_option
from outbox.store import migrating
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


def _facts(state: SchemaState) -> dict[str, object]:
    return {**asdict(state), "is_current": state.is_current}
