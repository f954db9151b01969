"""``celery -A shop outbox relay``: every command, for the outbox that is installed on a Celery application.

Celery imports this module at each of its own commands; so it imports the command line only when that is asked for.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from outbox.cli.application import Application


@click.command("outbox", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def outbox(context: click.Context, arguments: Sequence[str]) -> None:
    """Look after the outbox that is installed on the application: relay, status, list, retry and more."""
    try:
        commands = _commands(context.obj.app)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("dotenv", "humanize", "rich"):
            raise
        raise click.UsageError(f"the command line needs {error.name}: pip install 'celery-outbox[cli]'") from None
    commands.main(list(arguments), prog_name="celery outbox")


def _commands(app: Any) -> "Application":
    from outbox.cli.application import Application, application
    from outbox.cli.context import Access

    @click.pass_context
    def begin(context: click.Context) -> None:
        from outbox.integrations.celery.installations import outbox_of

        context.obj = access = Access.over(outbox_of(app), app)
        context.call_on_close(access.close)

    return Application("outbox", callback=begin, commands=application.commands, help=outbox.help, no_args_is_help=True)
