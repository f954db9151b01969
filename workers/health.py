"""``python -m workers.health``: is everything there that this service needs? One line for each thing, status 0 or 1."""

import sys
from collections.abc import Callable

from config.settings import Settings, load_settings
from config.urls import masked
from outbox import Outbox
from outbox.errors import DatabaseUnavailable, OutboxError
from workers.broker import require_answer, require_broker


def main() -> int:
    """Check, print, and return the exit status."""
    try:
        settings = load_settings()
    except OutboxError as error:
        print(f"settings: {error}")
        return 1
    return 0 if all([_told("database", check_database, settings), _told("broker", check_broker, settings)]) else 1


def check_database(settings: Settings) -> str:
    """The database's address, if it answers and has this release's schema. Raises :class:`~outbox.errors.OutboxError`."""
    outbox = Outbox(settings.database_url)
    try:
        outbox.check_schema()
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(f"{masked(settings.database_url)}: {error}") from error
    finally:
        outbox.close()
    return masked(settings.database_url)


def check_broker(settings: Settings) -> str:
    """The broker's address, if it answers. Raises :class:`~outbox.errors.OutboxError`."""
    url = require_broker(settings)
    require_answer(url)
    return masked(url)


def _told(what: str, check: Callable[[Settings], str], settings: Settings) -> bool:
    try:
        answer = check(settings)
    except OutboxError as error:
        print(f"{what}: {' '.join(str(error).split())}")
        return False
    print(f"{what}: ok ({answer})")
    return True


if __name__ == "__main__":
    sys.exit(main())
