"""Reading the options that every framework's settings offer: what could not be meant is refused by the option's own name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outbox.errors import ConfigurationError
from outbox.policy.retention import Retention

LONGEST_TABLE_NAME = 40
"""Leaves room for the suffixes of the other tables and of the indexes within PostgreSQL's 63 bytes."""

Channels = Mapping[str, Mapping[str, Any]] | Path
"""Tables like those of a ``channels.toml``, or the path of one."""


def typed(option: str, value: Any, kind: type) -> Any:
    """A value of exactly that type: ``True`` is no number."""
    if type(value) is not kind:
        raise ConfigurationError(f"{option} must be of type {kind.__name__}, not {value!r}")
    return value


def table(option: str, value: Any) -> str:
    """A prefix for the tables."""
    if not (isinstance(value, str) and value.isidentifier() and len(value) <= LONGEST_TABLE_NAME):
        raise ConfigurationError(f"{option} must be a name of letters, digits and _, not {value!r}")
    return value


def channels(option: str, value: Any) -> Channels:
    """The tables of a ``channels.toml`` as a dictionary, or the path of one."""
    if isinstance(value, str | Path):
        return Path(value)
    if not isinstance(value, Mapping) or not all(isinstance(options, Mapping) for options in value.values()):
        raise ConfigurationError(
            f'{option} must be the path of a channels.toml, or a dictionary of its tables: {{"webhook": {{"secret": …}}}}'
        )
    return value


def retention(option: str, value: Any) -> Retention:
    """A :class:`Retention`, or a dictionary of what makes one."""
    try:
        return value if isinstance(value, Retention) else Retention(**value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{option}: {error}") from error
