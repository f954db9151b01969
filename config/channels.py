"""The channels that the service delivers through: those of ``channels.toml``, with secrets from the environment or ``.env``."""

import os

from dotenv import dotenv_values

from config.settings import ENV_FILE, Settings
from outbox.channels import configuration, registry
from outbox.channels.base import Channel


def load_channels(settings: Settings) -> list[Channel]:
    """The channels of the settings' file; without one, only ``console``.

    Raises :class:`~outbox.errors.ConfigurationError` naming the file, and where it can the line or the channel.
    """
    defaults = {"ttl": settings.ttl_s} if settings.ttl_s is not None else {}
    if settings.channels is None:
        return [registry.build("console", defaults)]
    return configuration.load(settings.channels, dotenv_values(ENV_FILE) | os.environ, defaults)
