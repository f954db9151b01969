"""The variables that the command sees: the process's own, then those of a ``.env`` file in the working directory."""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from outbox.errors import ConfigurationError

ENV_FILE = Path(".env")


def variables() -> Mapping[str, str]:
    """Every variable that has a value; the process's own win. Raises :class:`~outbox.errors.ConfigurationError`."""
    try:
        from_file = dotenv_values(ENV_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{ENV_FILE} cannot be read: {error}") from error
    return {name: value for name, value in {**from_file, **os.environ}.items() if value}
