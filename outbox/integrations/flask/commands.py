"""``flask outbox …``: the ``outbox`` command, on the outbox of the application."""

from collections.abc import Sequence
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext


@click.command("outbox", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@with_appcontext
@click.pass_context
def outbox(context: click.Context, arguments: Sequence[str]) -> None:
    """Look after the outbox: what waits, what failed and why, and what to do about it."""
    try:
        from outbox.cli.application import application  # which web processes, that import this module too, do without
    except ModuleNotFoundError as error:
        raise click.UsageError(f"the command line needs {error.name}: pip install 'celery-outbox[cli]'") from None
    own = ["--app", "outbox.integrations.flask.extension:current_outbox"]
    if "celery" in current_app.extensions:
        own += ["--app", f"{__name__}:current_celery"]
    application.main(args=[*own, *arguments], prog_name=context.command_path)


def current_celery() -> Any:
    """The Celery application, where Flask's documentation has one put it: in ``app.extensions["celery"]``."""
    return current_app.extensions["celery"]
