"""Whose mail it is: the server that takes it, the login there, and what the sender is called."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from email.headerregistry import Address
from enum import StrEnum
from typing import Any

from outbox.channels.mail.addresses import has_controls, is_domain, read_address
from outbox.errors import did_you_mean


class Security(StrEnum):
    """How the connection is protected."""

    STARTTLS = "starttls"
    """Begun in the clear and encrypted before anything is said (RFC 3207); a server that cannot is not talked to."""
    TLS = "tls"
    """Encrypted from the first byte (RFC 8314)."""
    NONE = "none"
    """In the clear."""


_PORTS = {Security.STARTTLS: 587, Security.TLS: 465, Security.NONE: 25}


@dataclass(frozen=True, slots=True)
class Account:
    """A way to send mail. Made complete by :meth:`refined`, which checks what it is given and what is missing."""

    host: str = ""
    port: int | None = None
    security: Security = Security.STARTTLS
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sender: Address = field(default_factory=Address)
    """Stands in ``From``."""
    reply_address: Address | None = None
    """Stands in ``Reply-To``."""
    bounce_address: Address | None = None
    """The envelope's sender, whom the mail system tells what it could not deliver; otherwise that is the sender."""
    subject: str | None = None
    """Of messages that bring none."""
    domain: str | None = None
    """Of the ids that messages get; otherwise the sender's."""

    def refined(self, options: Any) -> "Account":
        """This account with the ``options`` of a table of configuration in place of its own.

        Raises :class:`ValueError`, whose text holds neither login nor password.
        """
        if not isinstance(options, Mapping):
            raise ValueError("an account must be a table")
        known = [option.name for option in fields(self)]
        for option in options:
            if option not in known:
                raise ValueError(f"an account has no option {option!r}{did_you_mean(str(option), known)}")
        given = {option: _read(option, value) for option, value in options.items() if value is not None}
        return replace(self, **given)._checked()

    @property
    def server_port(self) -> int:
        """The port, by default the one that is registered for the kind of connection."""
        return self.port or _PORTS[self.security]

    @property
    def is_complete(self) -> bool:
        """Whether mail can be sent with it."""
        return bool(self.host and self.sender.domain)

    @property
    def message_id_domain(self) -> str:
        """The right side of every ``Message-ID``."""
        return self.domain or self.sender.domain

    @property
    def credentials(self) -> list[str]:
        """What must not be repeated from a server's words: the password, and how it goes over the wire."""
        if self.username is None or self.password is None:
            return []
        plain = b64encode(f"\0{self.username}\0{self.password}".encode())
        return [self.password, b64encode(self.password.encode()).decode(), plain.decode()]

    def _checked(self) -> "Account":
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.password is not None and self.security is Security.NONE:
            raise ValueError("a password is not sent in the clear: use security 'starttls' or 'tls', or no login")
        if not self.message_id_domain.isascii():
            raise ValueError("the sender's domain is not ASCII: give as domain how it is written in ASCII (xn--…)")
        return self


def _read(option: str, value: Any) -> Any:
    if option == "port":
        if type(value) is not int or not 0 < value < 65536:
            raise ValueError(f"port must be a port number, not {value!r}")
        return value
    if not isinstance(value, str) or not value or has_controls(value):
        raise ValueError(f"{option} must be text in one line, and not empty")
    match option:
        case "security":
            return _security(value)
        case "sender" | "reply_address" | "bounce_address":
            return read_address(value, option)
        case "host" if value.strip() != value or "/" in value or "@" in value:
            raise ValueError("host must be the name of the server alone, without scheme, port and login")
        case "domain" if not is_domain(value) or not value.isascii():
            raise ValueError("domain must be a domain's name in ASCII, such as 'example.com'")
    return value


def _security(value: str) -> Security:
    try:
        return Security(value)
    except ValueError:
        raise ValueError(f"security must be 'starttls', 'tls' or 'none', not {value!r}") from None
