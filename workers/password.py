"""Flower's password: the one that is set, else one made at first use and kept in the data directory for its user alone."""

import contextlib
import os
import secrets

from config.settings import Settings


def flower_password(settings: Settings) -> str:
    """The password of ``settings.flower_user``."""
    if settings.flower_password is not None:
        return settings.flower_password.get_secret_value()
    settings.make_data_dir()
    file = settings.data_dir / "flower-password"
    fresh = file.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as writing:
        writing.write(secrets.token_urlsafe(18))
    # Linked into place whole: of two processes that start at once, both read the password of the first.
    with contextlib.suppress(FileExistsError):
        os.link(fresh, file)
    fresh.unlink()
    return file.read_text()
