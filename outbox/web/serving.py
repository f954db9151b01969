"""The dashboard on a server of its own: waitress, which is threads and nothing else."""

import ipaddress
import logging
import secrets
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from waitress.server import create_server

from outbox.errors import ConfigurationError
from outbox.web.access import Auth, Login, Open, Role
from outbox.web.application import Dashboard
from outbox.web.users import load_users

THREADS = 8
SHORTEST_SECRET = 32
_FORWARDED = frozenset({"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"})


def is_loopback(host: str) -> bool:
    """Whether only processes on the same machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def auth_for(
    host: str, users_file: Path | None, secret: str | None, *, name: str, role: Role = Role.OPERATOR, behind_proxy: bool = False
) -> Auth:  # fmt: skip
    """Log-ins where there is a file of users; else, on the loopback interface alone, everybody is ``name`` in that role.

    Raises :class:`~outbox.errors.ConfigurationError`.
    """
    if users_file is None:
        if behind_proxy:
            raise ConfigurationError("others come through the proxy: name a file of those who may log in")
        if not is_loopback(host):
            raise ConfigurationError(f"others can reach {host}: name a file of those who may log in, or use 127.0.0.1")
        return Open(name, role)
    if secret is not None and len(secret) < SHORTEST_SECRET:
        raise ConfigurationError(f"the dashboard's secret has fewer than {SHORTEST_SECRET} characters")
    return Login(load_users(users_file), secret.encode() if secret else secrets.token_bytes(32))


def serve(app: Dashboard, host: str, port: int, ready: Callable[[str], None], *, behind_proxy: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C; ``ready`` is called with the address. ``port`` 0 takes a free one.

    ``behind_proxy``: one proxy stands in front, and its ``X-Forwarded-For``, ``-Proto`` and ``-Host`` are believed. Without
    them every visitor has the proxy's address, and log-ins throttle all for one.

    Raises :class:`~outbox.errors.ConfigurationError` for an address that cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(f"{host} port {port} cannot be listened on: {error.strerror or error}") from None
    proxy = {"trusted_proxy": "*", "trusted_proxy_count": 1, "trusted_proxy_headers": _FORWARDED} if behind_proxy else {}
    server = create_server(app, sockets=[listening], threads=THREADS, ident=None, clear_untrusted_proxy_headers=True, **proxy)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that waits a moment for a thread
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # waitress ends in order on Ctrl-C
    name = f"[{host}]" if ":" in host else host
    ready(f"http://{name}:{listening.getsockname()[1]}/")
    server.run()
