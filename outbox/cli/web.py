"""``outbox web`` and ``outbox web-user``: the dashboard on a server of its own, and who may log in there."""

import secrets
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.logs import LEVELS, log_to_stderr
from outbox.cli.parameters import operating_user
from outbox.errors import ConfigurationError

if TYPE_CHECKING:
    from outbox.web.access import Auth

DEFAULT_PORT = 8700
_ROLES = ("viewer", "operator", "admin")
_SHORTEST_SECRET = 32
_EPILOG = """\b
Examples:
  outbox --database sqlite:///app.db web
  outbox --app shop.messages:outbox web --read-only
  outbox --database postgresql://app@db/shop web --host 0.0.0.0 --users users.toml --allow-host outbox.example.com"""


@click.command(epilog=_EPILOG)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="Port; 0: a free one.")
@click.option(
    "--users", "users_file", metavar="FILE", type=click.Path(path_type=Path),
    help="TOML file of those who may log in. Needed unless the address is on the loopback interface."
    " [env: OUTBOX_WEB_USERS]",
)  # fmt: skip
@click.option(
    "--role", type=click.Choice(_ROLES), default="operator", show_default=True,
    help="What may be done where nobody logs in; only an admin sees payloads.",
)  # fmt: skip
@click.option("--read-only", is_flag=True, help="Refuse every change, whoever asks.")
@click.option(
    "--allow-host", "allowed_hosts", metavar="NAME", multiple=True,
    help="Answer to that name only; may be given several times. Without log-ins it is localhost, 127.0.0.1 and [::1].",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="INFO", show_default=True,
    help="The least severe thing that is logged.",
)  # fmt: skip
@pass_access
def web(
    access: Access, *, host: str, port: int, users_file: Path | None, role: str, read_only: bool,
    allowed_hosts: Sequence[str], log_level: str,
) -> None:  # fmt: skip
    """Serve the dashboard and its JSON API until Ctrl-C or SIGTERM.

    Where only this machine can reach it, nobody logs in, and what is done goes on record under the name of the user who runs
    this. Put a server that speaks TLS in front of anything else.
    """
    _require_extra()
    from outbox.web import create_app, serving

    log_to_stderr(log_level)
    users_file = users_file or _path(access.variables.get("OUTBOX_WEB_USERS"))
    auth = _auth(users_file, access.variables.get("OUTBOX_WEB_SECRET"), role, loopback=serving.is_loopback(host))
    app = create_app(access.open(with_channels=True), auth=auth, read_only=read_only, allowed_hosts=allowed_hosts or None)
    serving.serve(app, host, port, lambda address: printing.line(f"the dashboard is at {address}"))


@click.command("web-user", epilog="Example: outbox web-user ada --role operator >> users.toml")
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), default="viewer", show_default=True, help="What the user may do.")
def web_user(name: str, role: str) -> None:
    """Ask for a password, and print the table of that user for the file of `outbox web --users`: the password as a hash."""
    _require_extra()
    from outbox.web.access import Role
    from outbox.web.users import user_table

    password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    click.echo(user_table(name, Role(role), password))


def _auth(users_file: Path | None, secret: str | None, role: str, *, loopback: bool) -> "Auth":
    from outbox.web.access import Login, Open, Role
    from outbox.web.users import load_users

    if users_file is None:
        if not loopback:
            raise ConfigurationError("others can reach that address: name with --users who may log in, or use 127.0.0.1")
        return Open(operating_user(), Role(role))
    if secret is not None and len(secret) < _SHORTEST_SECRET:
        raise ConfigurationError(f"OUTBOX_WEB_SECRET has fewer than {_SHORTEST_SECRET} characters")
    return Login(load_users(users_file), secret.encode() if secret else secrets.token_bytes(32))


def _require_extra() -> None:
    try:
        import_module("outbox.web.serving")
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"the dashboard needs {error.name}: pip install 'celery-outbox[web]'") from error


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
