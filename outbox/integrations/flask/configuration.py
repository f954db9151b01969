"""The ``OUTBOX_…`` keys of an application's configuration, read once and refused where they could not be meant."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from outbox.channels import configuration as channel_files
from outbox.channels import registry
from outbox.channels.base import Channel
from outbox.errors import ConfigurationError, did_you_mean
from outbox.integrations import options
from outbox.policy.retention import Retention
from outbox.preparing import DEFAULT_PAYLOAD_LIMIT
from outbox.store.schema import DEFAULT_TABLE

PREFIX = "OUTBOX_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Each field is the key ``OUTBOX_<FIELD>``, with its default."""

    table: str = DEFAULT_TABLE
    """Prefix of the outbox's tables."""
    channels: options.Channels = field(default_factory=dict)
    payload_limit: int = DEFAULT_PAYLOAD_LIMIT
    """Bytes that one message may take."""
    retention: Retention = field(default_factory=Retention)
    log_successes: bool = False

    def built_channels(self) -> list[Channel]:
        """The channels that are configured. Raises :class:`~outbox.errors.ConfigurationError`."""
        if isinstance(self.channels, Mapping):
            return [registry.build(name, table) for name, table in self.channels.items()]
        return channel_files.load(self.channels, os.environ)


def read(config: Mapping[str, Any]) -> Configuration:
    """What the application's configuration says. Raises :class:`~outbox.errors.ConfigurationError`."""
    known = {PREFIX + one.name.upper(): one.name for one in fields(Configuration)}
    given = {key: value for key, value in config.items() if key.startswith(PREFIX)}
    for key in given:
        if key not in known:
            raise ConfigurationError(f"there is no key {key!r} for the configuration{did_you_mean(key, known)}")
    return Configuration(**{known[key]: _READERS[known[key]](key, value) for key, value in given.items()})


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "table": options.table,
    "channels": options.channels,
    "payload_limit": partial(options.typed, kind=int),
    "retention": options.retention,
    "log_successes": partial(options.typed, kind=bool),
}
