"""``manage.py check``: what could not work is an error, what will hurt under load a warning; each says what to do."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register

from outbox.errors import ConfigurationError
from outbox.integrations.django import configuration, database, process


@register("outbox")
def check_settings(**_options: object) -> list[CheckMessage]:
    """``settings.OUTBOX``, its database alias and its channels."""
    try:
        configured = configuration.read()
    except ConfigurationError as error:
        return [Error(str(error), id="outbox.E001")]
    return [*_alias(configured.database), *_channels()]


@register(Tags.database)
def check_database(databases: Sequence[str] | None = None, **_options: object) -> list[CheckMessage]:
    """How Django's transactions begin, where they are SQLite's."""
    try:
        alias = configuration.read().database
        wrapper = database.wrapper_of(alias)
    except ConfigurationError:
        return []  # told by the other check
    return list(_sqlite(wrapper.settings_dict, alias)) if wrapper.vendor == "sqlite" and alias in (databases or ()) else []


def _alias(alias: str) -> Iterator[CheckMessage]:
    try:
        database.wrapper_of(alias)
    except ConfigurationError as error:
        yield Error(str(error), hint="OUTBOX['DATABASE'] names an alias of settings.DATABASES", id="outbox.E002")


def _channels() -> Iterator[CheckMessage]:
    try:
        process.outbox()
    except ConfigurationError as error:
        yield Error(str(error), id="outbox.E003")


def _sqlite(settings: dict[str, Any], alias: str) -> Iterator[CheckMessage]:
    if str(settings["OPTIONS"].get("transaction_mode", "")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Warning(
            f"transactions of the database {alias!r} begin deferred: one that reads and then writes fails at once with"
            " 'database is locked' when somebody else wrote meanwhile, whatever the timeout",
            hint=f"DATABASES[{alias!r}]['OPTIONS'] = {{'transaction_mode': 'IMMEDIATE'}}",
            id="outbox.W001",
        )
