"""``outbox web`` and ``outbox web-user``: the dashboard on a server of its own, and who may log in there."""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from outbox.cli import printing
from outbox.cli.context import Access, pass_access
from outbox.cli.logs import LEVELS, log_to_stderr
from outbox.cli.parameters import operating_user
from outbox.extras import extra

DEFAULT_PORT = 8700
_ROLES = ("viewer", "operator", "admin")
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
    " [env: OUTBOX_DASHBOARD_USERS]",
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
    "--behind-proxy", is_flag=True,
    help="Believe the one proxy in front: X-Forwarded-For, -Proto and -Host.",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="INFO", show_default=True,
    help="The least severe thing that is logged.",
)  # fmt: skip
@pass_access
def web(
    access: Access, *, host: str, port: int, users_file: Path | None, role: str, read_only: bool,
    allowed_hosts: Sequence[str], behind_proxy: bool, log_level: str,
) -> None:  # fmt: skip
    """Serve the dashboard and its JSON API until Ctrl-C or SIGTERM.

    Where only this machine can reach it, nobody logs in, and what is done goes on record under the name of the user who runs
    this. Put a server that speaks TLS in front of anything else.
    """
    _require_extra()
    from outbox.web import Role, create_app, serving

    log_to_stderr(log_level)
    users_file = users_file or _path(access.variables.get("OUTBOX_DASHBOARD_USERS"))
    secret = access.variables.get("OUTBOX_DASHBOARD_SECRET")
    auth = serving.auth_for(host, users_file, secret, name=operating_user(), role=Role(role), behind_proxy=behind_proxy)
    app = create_app(access.open(with_channels=True), auth=auth, read_only=read_only, allowed_hosts=allowed_hosts or None)
    serving.serve(app, host, port, _say, behind_proxy=behind_proxy)


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


def _say(address: str) -> None:
    printing.line(f"the dashboard is at {address}")
    sys.stdout.flush()  # whoever reads it in a file or a pipe waits for it


def _require_extra() -> None:
    with extra("web", "the dashboard"):
        import_module("outbox.web.serving")


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
