"""The file that says who may log in: a TOML table for each user, with ``role`` and ``password``, which is a hash."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from werkzeug.security import generate_password_hash

from outbox.errors import ConfigurationError, did_you_mean
from outbox.web.access import Role, User

_HASHES = ("scrypt:", "pbkdf2:")
_KEYS = frozenset({"role", "password"})


def load_users(path: Path) -> dict[str, User]:
    """The users of a file. Raises :class:`~outbox.errors.ConfigurationError`, which never quotes a password."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    if not tables:
        raise ConfigurationError(f"{path} names nobody: add a table with `outbox web-user NAME`")
    return {name: _user(path, name, table) for name, table in tables.items()}


def user_table(name: str, role: Role, password: str) -> str:
    """The table of one user, for that file."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'["{quoted}"]\nrole = "{role}"\npassword = "{generate_password_hash(password)}"\n'


def _user(path: Path, name: str, table: Any) -> User:
    where = f"{path}, user {name!r}"
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{where}: it is no table with role and password")
    for key in table.keys() - _KEYS:
        raise ConfigurationError(f"{where}: there is no option {key!r}{did_you_mean(key, _KEYS)}")
    role, password = table.get("role"), table.get("password")
    if role not in list(Role):
        raise ConfigurationError(f"{where}: role must be one of {', '.join(Role)}{did_you_mean(str(role), map(str, Role))}")
    if not isinstance(password, str) or not password.startswith(_HASHES):
        raise ConfigurationError(f"{where}: password is not a hash; make one with `outbox web-user {name}`")
    return User(name, Role(role), password)
