"""The service's settings: validated once, at start, from the environment, ``.env`` and ``channels.toml``."""
