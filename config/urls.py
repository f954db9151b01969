"""Whether a database or broker URL can mean anything to us, said in a way that helps; no connection is made."""

import re
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from outbox.errors import did_you_mean

DATABASES: Final = ("sqlite", "postgresql")
BROKERS: Final = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps", "pyamqp")

_PASSWORD = re.compile(r"((?<=://)[^/@:]*:).*(?=@)|((?<=password=))[^&]*")


def check_database_url(url: str) -> str:
    """Return the URL. Raises `ValueError` when it does not parse or names a database that the store does not speak to."""
    if url.startswith("postgres://"):
        raise ValueError("write postgresql://, not postgres://")
    try:
        backend = make_url(url).get_backend_name()
    except ArgumentError:
        raise ValueError("not a database URL; write sqlite:///path or postgresql://user:password@host/name") from None
    except ValueError:
        raise ValueError("its port is not a number; a / : or @ in a password is written %2F %3A %40") from None
    if backend not in DATABASES:
        raise ValueError(f"{backend!r} is not supported{did_you_mean(backend, DATABASES)}; use sqlite or postgresql")
    return url


def check_broker_url(url: str) -> str:
    """Return the URL. Raises `ValueError` when it does not parse or is of no broker that keeps the service's promises."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError("not a broker URL; write redis://host:6379/0 or amqp://user:password@host//")
    if scheme in ("valkey", "valkeys"):
        raise ValueError(f"write redis{scheme.removeprefix('valkey')}://: Valkey speaks the Redis protocol")
    if scheme not in BROKERS:
        hint = did_you_mean(scheme, BROKERS)
        raise ValueError(f"{scheme!r} is not supported{hint}; use one of {', '.join(BROKERS)}")
    try:
        for node in url.split(";"):  # a sentinel:// URL names several
            _ = urlsplit(node).port
    except ValueError:
        raise ValueError("its host or port makes no sense; a / : or @ in a password is written %2F %3A %40") from None
    if scheme == "redis+socket" and not urlsplit(url).path.strip("/"):
        raise ValueError("redis+socket:// needs the path of the socket: redis+socket:///run/valkey.sock")
    return url


def masked(url: str) -> str:
    """The URL without its password, for people and logs."""
    return _PASSWORD.sub(r"\1***", url)
