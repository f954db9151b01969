"""``settings.OUTBOX``, read once and refused where it could not be meant."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import partial
from typing import Any

from django.conf import settings

from outbox.errors import ConfigurationError, did_you_mean
from outbox.integrations import options
from outbox.policy.retention import Retention
from outbox.preparing import DEFAULT_PAYLOAD_LIMIT
from outbox.store.schema import DEFAULT_TABLE


class OutsideTransaction(StrEnum):
    """What an enqueue does where no ``transaction.atomic`` block is open."""

    ERROR = "error"
    """It raises: the data that the message is about may be committed without it, or it without the data."""
    WARN = "warn"
    """It warns, and writes the message in a transaction of its own."""
    ALLOW = "allow"
    """It writes the message in a transaction of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The keys of ``settings.OUTBOX`` in lower case, with their defaults."""

    database: str = "default"
    """Alias of the database that holds the outbox."""
    table: str = DEFAULT_TABLE
    """Prefix of the outbox's tables."""
    channels: options.Channels = field(default_factory=dict)
    outside_transaction: OutsideTransaction = OutsideTransaction.ERROR
    email_backend: str = "django.core.mail.backends.smtp.EmailBackend"
    """What the worker sends mail with, where Django's mail goes through the outbox: a backend, or an alias of ``MAILERS``."""
    email_policy: Mapping[str, Any] = field(default_factory=dict)
    """Policy of the mail channel: ``timeout``, ``max_attempts`` and the like."""
    tasks_policy: Mapping[str, Any] = field(default_factory=dict)
    """Policy of the channel that runs the tasks of ``django.tasks``."""
    payload_limit: int = DEFAULT_PAYLOAD_LIMIT
    """Bytes that one message may take, attachments of a mail included."""
    retention: Retention = field(default_factory=Retention)
    log_successes: bool = False


def read() -> Configuration:
    """What ``settings.OUTBOX`` says. Raises :class:`~outbox.errors.ConfigurationError`."""
    given = getattr(settings, "OUTBOX", {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"settings.OUTBOX must be a dictionary, not a {type(given).__name__}")
    known = {one.name.upper(): one.name for one in fields(Configuration)}
    for key in given:
        if key not in known:
            raise ConfigurationError(f"settings.OUTBOX has no key {key!r}{did_you_mean(str(key).upper(), known)}")
    return Configuration(**{known[key]: _READERS[key](f"settings.OUTBOX[{key!r}]", value) for key, value in given.items()})


def table_name() -> str:
    """The prefix of the tables, for models, which are made before anything could complain about the settings."""
    try:
        return read().table
    except ConfigurationError:  # the system check tells
        return DEFAULT_TABLE


def _policy(option: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{option} must be a dictionary of channel options, not {value!r}")
    return value


def _outside(option: str, value: Any) -> OutsideTransaction:
    try:
        return OutsideTransaction(value)
    except ValueError:
        choices = ", ".join(repr(str(one)) for one in OutsideTransaction)
        raise ConfigurationError(f"{option} must be one of {choices}, not {value!r}") from None


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "DATABASE": partial(options.typed, kind=str),
    "TABLE": options.table,
    "CHANNELS": options.channels,
    "OUTSIDE_TRANSACTION": _outside,
    "EMAIL_BACKEND": partial(options.typed, kind=str),
    "EMAIL_POLICY": _policy,
    "TASKS_POLICY": _policy,
    "PAYLOAD_LIMIT": partial(options.typed, kind=int),
    "RETENTION": options.retention,
    "LOG_SUCCESSES": partial(options.typed, kind=bool),
}
