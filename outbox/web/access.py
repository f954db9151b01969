"""Who may look and who may act: roles, users, and the three ways of knowing whom one talks to."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from werkzeug.security import check_password_hash, generate_password_hash

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names under which a browser on the same machine asks; any other name in ``Host`` is a page that rebound its own."""


class Role(StrEnum):
    """What a person may do; each may do what those before it may."""

    VIEWER = "viewer"
    """See everything but what messages say."""
    OPERATOR = "operator"
    """Retry, cancel, resolve, pause and resume."""
    ADMIN = "admin"
    """See payloads and headers."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person who is let in. ``name`` is what goes on record with what they do."""

    name: str
    role: Role

    @property
    def may_act(self) -> bool:
        """Whether they may change anything."""
        return self.role is not Role.VIEWER

    @property
    def may_see_content(self) -> bool:
        """Whether they may see payloads and headers."""
        return self.role is Role.ADMIN


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who logs in; ``password_hash`` is made by :func:`werkzeug.security.generate_password_hash`."""

    name: str
    role: Role
    password_hash: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Changes with the password, so that sessions begun under another one end."""
        return hashlib.sha256(self.password_hash.encode()).hexdigest()[:16]

    @property
    def visitor(self) -> Visitor:
        """This user, let in."""
        return Visitor(self.name, self.role)


@dataclass(frozen=True)
class Login:
    """People log in with name and password. Sessions end with ``secret``: keep it, and share it between processes."""

    users: Mapping[str, User]
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _nobody: str = field(default_factory=lambda: generate_password_hash(secrets.token_hex()), repr=False)

    def verify(self, name: str, password: str) -> User | None:
        """The user, if the password is right. It takes as long for a name that nobody has."""
        user = self.users.get(name)
        right = check_password_hash(user.password_hash if user else self._nobody, password)
        return user if right else None


@dataclass(frozen=True)
class Open:
    """Nobody logs in: for a server on the loopback interface. ``name`` goes on record with whatever is done."""

    name: str
    role: Role = Role.OPERATOR
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)


@dataclass(frozen=True)
class Delegated:
    """The application around it knows: ``identify(environ)`` returns the visitor, or ``None`` for who may not come in.

    ``login_url`` is where such people are sent; without one they are refused.
    """

    identify: Callable[[dict[str, Any]], Visitor | None]
    login_url: str | None = None
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)


Auth = Login | Open | Delegated
