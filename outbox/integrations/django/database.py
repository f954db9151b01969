"""Django's database alias as an address for SQLAlchemy: the relay and the workers have connections of their own."""

from typing import Any

from django.core import mail
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist
from sqlalchemy import Engine, event
from sqlalchemy.engine import URL

from outbox.errors import ConfigurationError, did_you_mean

SUPPORTED = ("sqlite", "postgresql")

_DJANGOS_OWN = frozenset(
    {"assume_role", "autocommit", "context", "cursor_factory", "isolation_level", "options", "pool", "prepare_threshold",
     "server_side_binding"}
)  # fmt: skip
"""Options of a PostgreSQL alias that mean Django's connections, or that are spelt otherwise here."""


def wrapper_of(alias: str) -> Any:
    """Django's connection of this thread. Raises :class:`~outbox.errors.ConfigurationError` for an alias that is of no use."""
    try:
        wrapper = connections[alias]
    except ConnectionDoesNotExist:
        hint = did_you_mean(alias, connections)
        raise ConfigurationError(f"settings.DATABASES has no alias {alias!r}{hint}") from None
    if wrapper.vendor not in SUPPORTED:
        raise ConfigurationError(f"the outbox cannot live in {wrapper.display_name}: use SQLite or PostgreSQL")
    return wrapper


def url_of(alias: str) -> URL:
    """The address that the alias has now; a test runner changes it."""
    wrapper = wrapper_of(alias)
    given: dict[str, Any] = wrapper.settings_dict
    return _sqlite_url(given) if wrapper.vendor == "sqlite" else _postgresql_url(given)


def is_in_memory(alias: str) -> bool:
    """Whether the database lives and dies with Django's connection to it."""
    wrapper = wrapper_of(alias)
    return wrapper.vendor == "sqlite" and bool(wrapper.is_in_memory_db())


def same_database(alias: str, other: str) -> bool:
    """Whether both aliases lead to one database."""
    one, another = (wrapper_of(each) for each in (alias, other))
    return all(one.settings_dict[key] == another.settings_dict[key] for key in ("ENGINE", "NAME", "HOST", "PORT"))


def follow(engine: Engine, alias: str) -> None:
    """Let every new connection of the engine go where the alias leads then.

    Without it an engine that was made before a test runner put its own database under the alias would go on in production's.
    """

    def connect_where_the_alias_leads(dialect: Any, _record: object, arguments: list[Any], options: dict[str, Any]) -> None:
        positional, named = dialect.create_connect_args(url_of(alias))
        arguments[:] = positional
        options.update({name: value for name, value in named.items() if name != "options"})

    event.listen(engine, "do_connect", connect_where_the_alias_leads)
    event.listen(engine, "checkin", _keep_no_test_database)


def _keep_no_test_database(_connection: object, record: Any) -> None:
    """A test runner drops its database in the end, and could not while somebody is connected to it."""
    if hasattr(mail, "outbox"):  # as Django's documentation says: there in tests alone
        record.invalidate()


def _sqlite_url(given: dict[str, Any]) -> URL:
    name = str(given["NAME"])
    if not name.startswith("file:"):
        return URL.create("sqlite", database=name)
    path, _, query = name.partition("?")
    pairs = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
    return URL.create("sqlite", database=path, query={**pairs, "uri": "true"})


def _postgresql_url(given: dict[str, Any]) -> URL:
    options = given.get("OPTIONS", {})
    query = {name: str(value) for name, value in options.items() if name not in _DJANGOS_OWN}
    host = given["HOST"] or None
    if host is not None and host.startswith("/"):  # a directory of sockets, which is no part of an address
        query["host"], host = host, None
    spoken = [str(options["options"])] if "options" in options else []
    if "assume_role" in options:
        spoken.append(f"-c role={options['assume_role']}")
    if spoken:
        query["options"] = " ".join(spoken)
    return URL.create(
        "postgresql+psycopg",
        username=given["USER"] or None,
        password=given["PASSWORD"] or None,
        host=host,
        port=int(given["PORT"]) if given["PORT"] else None,
        database=given["NAME"] or None,
        query=query,
    )
