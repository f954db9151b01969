"""``python -m workers.dashboard``: serves the dashboard of the configured database, with the channels that the nodes have."""

import logging
import sys

from config.channels import load_channels
from config.settings import Settings, load_settings, variable
from outbox import Outbox
from outbox.cli.parameters import operating_user
from outbox.errors import ConfigurationError, OutboxError
from outbox.web import create_app, serving
from outbox.web.access import Auth


def main() -> int:
    """Serve until asked to stop; the exit status."""
    try:
        settings = load_settings()
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(message)s")
        outbox = Outbox(settings.database_url, channels=load_channels(settings))
        app = create_app(outbox, auth=auth(settings))
        where = settings.dashboard_host, settings.dashboard_port
        serving.serve(app, *where, _say, behind_proxy=settings.dashboard_behind_proxy)
    except OutboxError as error:
        print(f"outbox: no dashboard: {error}", file=sys.stderr)
        return 1
    outbox.close()
    return 0


def auth(settings: Settings) -> Auth:
    """How visitors are known. Raises :class:`~outbox.errors.ConfigurationError`, naming the setting."""
    secret = None if settings.dashboard_secret is None else settings.dashboard_secret.get_secret_value()
    try:
        return serving.auth_for(
            settings.dashboard_host, settings.dashboard_users, secret,
            name=operating_user(), behind_proxy=settings.dashboard_behind_proxy,
        )  # fmt: skip
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} (see {variable('dashboard_users')})") from None


def address(settings: Settings) -> str:
    """Where the dashboard is."""
    return f"http://{settings.dashboard_host}:{settings.dashboard_port}/"


def _say(where: str) -> None:
    print(f"outbox: the dashboard is at {where}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
