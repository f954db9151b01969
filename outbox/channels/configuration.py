"""Channels from a TOML file: one table each, named like the channel.

``{ from_env = "NAME" }`` in place of a value reads it from the environment: secrets stay out of the file.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outbox.channels import registry
from outbox.channels.base import Channel
from outbox.errors import ConfigurationError

_Environment = Mapping[str, str | None]


def load(file: Path, environment: _Environment, defaults: Mapping[str, Any] | None = None) -> list[Channel]:
    """The channels of ``file``; ``defaults`` are options for tables that do not set them.

    Raises :class:`~outbox.errors.ConfigurationError` naming the file, and where it can the line or the channel.
    """
    tables = _tables(file)
    try:
        return [
            registry.build(name, {**(defaults or {}), **_resolved(name, options, environment)})
            for name, options in tables.items()
        ]
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def _tables(file: Path) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # bad UTF-8, or bad TOML with the line and column in its text
        raise ConfigurationError(f"{file} is not TOML: {error}") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigurationError(f"{file}: {name!r} stands outside of a channel's table, such as [webhook]")
    if not tables:
        raise ConfigurationError(f"{file} configures no channel; add a table such as [webhook]")
    return tables


def _resolved(channel: str, options: Mapping[str, Any], environment: _Environment) -> dict[str, Any]:
    return {option: _value(channel, option, given, environment) for option, given in options.items()}


def _value(channel: str, option: str, given: Any, environment: _Environment) -> Any:
    if isinstance(given, list):
        return [_value(channel, option, item, environment) for item in given]
    if isinstance(given, dict):
        if given.keys() == {"from_env"}:
            return _from_environment(channel, option, str(given["from_env"]), environment)
        return {key: _value(channel, f"{option}.{key}", item, environment) for key, item in given.items()}
    return given


def _from_environment(channel: str, option: str, name: str, environment: _Environment) -> str:
    value = environment.get(name)
    if not value:
        raise ConfigurationError(f"channel {channel!r}: {option} is to come from {name}, which is not set")
    return value
