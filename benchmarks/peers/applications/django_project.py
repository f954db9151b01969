"""The Django settings of the peers that live in Django."""

from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command

from benchmarks.peers.applications.work import postgresql_url, sqlite_file

# Write transactions that begin as such, or SQLite refuses them when two meet; commits that survive a power cut.
SQLITE = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 30,
    "init_command": "pragma journal_mode=wal; pragma synchronous=full",
}


def set_up(*applications: str, **more: object) -> None:
    """Configure Django with these applications; ``more`` are settings of theirs."""
    settings.configure(
        DATABASES={"default": _database()},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", *applications],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        LOGGING={"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}},
        **more,
    )
    django.setup()


def prepare() -> None:
    call_command("migrate", verbosity=0)


def _database() -> dict[str, object]:
    if path := sqlite_file():
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": SQLITE}
    url = urlsplit(postgresql_url())
    place = {"HOST": url.hostname, "PORT": url.port, "USER": url.username, "NAME": url.path.lstrip("/")}
    return {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": None, **place}
