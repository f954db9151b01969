"""The command itself: global options, and what an error looks like and exits with."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from sqlalchemy.exc import SQLAlchemyError

from outbox.cli import (
    database,
    doctor,
    enqueueing,
    gates,
    importing,
    messages,
    operators,
    printing,
    pruning,
    relaying,
    status,
    watching,
    web,
)
from outbox.cli.context import Access
from outbox.cli.environment import variables
from outbox.errors import ConfigurationError, InvalidMessage, OutboxError
from outbox.store.schema import DEFAULT_TABLE

FOUND, USED_WRONGLY = 1, 2
_INTERRUPTED = 130

_EPILOG = """\b
Examples:
  outbox --database sqlite:///app.db db upgrade
  outbox --database postgresql://app@db/shop status
  outbox --app shop.messages:outbox retry --channel webhook
  OUTBOX_DATABASE_URL=sqlite:///app.db outbox list --status parked

\b
Exit status: 0 all is well, 1 something was found or refused, 2 used wrongly."""


class Application(click.Group):
    """A group whose every failure is one line on standard error that says what to do."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command and end the process."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character is no reason to fail
        try:
            _require_text(options.get("args"))
            result = super().main(*arguments, **{**options, "standalone_mode": False})
            sys.stdout.flush()
            sys.exit(result if isinstance(result, int) else 0)
        except click.exceptions.NoArgsIsHelpError as unsaid:
            unsaid.show()
            sys.exit(USED_WRONGLY)
        except click.ClickException as error:
            _fail(_explained(error), error.exit_code)
        except (ConfigurationError, InvalidMessage) as error:
            _fail(str(error), USED_WRONGLY)
        except OutboxError as error:
            _fail(str(error), FOUND)
        except SQLAlchemyError as error:
            _fail(f"the database failed: {getattr(error, 'orig', None) or error}", FOUND)
        except BrokenPipeError:
            _close_quietly()
            sys.exit(FOUND)
        except click.Abort:
            _fail("stopped", _INTERRUPTED)


def _fail(text: str, status: int) -> None:
    printing.note(f"outbox: {' '.join(text.split())}")
    sys.exit(status)


def _require_text(arguments: Sequence[str] | None) -> None:
    """Refuse bytes that are no UTF-8: no database would store them."""
    for argument in sys.argv[1:] if arguments is None else arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"the argument {argument} is not UTF-8 text") from None


def _explained(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{text} (see `{error.ctx.command_path} --help`)"
    return text


def _close_quietly() -> None:
    """Whoever read our output has gone: what is still buffered has nowhere to go, and Python would complain at exit."""
    sys.stdout = sys.stderr = None


@click.command(cls=Application, name="outbox", epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("celery-outbox"), "--version", prog_name="outbox", message="%(prog)s %(version)s")
@click.option("--database", metavar="URL", help="sqlite:///app.db or postgresql://user@host/name. [env: OUTBOX_DATABASE_URL]")
@click.option("--table", metavar="NAME", default=DEFAULT_TABLE, show_default=True, help="Prefix of the outbox's tables.")
@click.option(
    "--channels", metavar="FILE", type=click.Path(path_type=Path),
    help="TOML file that configures the channels, as the service reads it. [env: OUTBOX_CHANNELS]",
)  # fmt: skip
@click.option(
    "--app", "apps", metavar="MODULE:ATTRIBUTE", multiple=True,
    help="An application's own Outbox, SQLAlchemy engine or Celery application; may be given several times.",
)  # fmt: skip
@click.pass_context
def application(context: click.Context, database: str | None, table: str, channels: Path | None, apps: tuple[str, ...]) -> None:
    """Look after an outbox: what waits, what failed and why, and what to do about it.

    OUTBOX_DATABASE_URL, OUTBOX_CHANNELS and OUTBOX_BROKER_URL may also stand in a .env file in the working directory.
    """
    seen = variables()
    channels_file = channels or (Path(seen["OUTBOX_CHANNELS"]) if "OUTBOX_CHANNELS" in seen else None)
    typed = {
        name for name in ("database", "table", "channels")
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }  # fmt: skip
    access = Access(database or seen.get("OUTBOX_DATABASE_URL"), table, channels_file, apps, seen, frozenset(typed))
    context.obj = access
    context.call_on_close(access.close)


for command in (
    database.db, enqueueing.enqueue, status.status, watching.watch, messages.list_, messages.show, operators.retry,
    operators.cancel, operators.resolve, gates.pause, gates.resume, relaying.relay, pruning.prune, importing.import_legacy,
    doctor.doctor, web.web, web.web_user,
):  # fmt: skip
    application.add_command(command)
