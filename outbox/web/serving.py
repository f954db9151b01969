"""The dashboard on a server of its own: waitress, which is threads and nothing else."""

import ipaddress
import signal
from collections.abc import Callable

from waitress.server import create_server

from outbox.errors import ConfigurationError
from outbox.web.application import Dashboard

THREADS = 8


def is_loopback(host: str) -> bool:
    """Whether only processes on the same machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(app: Dashboard, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; ``ready`` is called with the address. ``port`` 0 takes a free one.

    Raises :class:`~outbox.errors.ConfigurationError` for an address that cannot be listened on.
    """
    try:
        server = create_server(app, host=host, port=port, threads=THREADS, ident=None, clear_untrusted_proxy_headers=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{host} port {port} cannot be listened on: {reason}") from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # waitress ends in order on Ctrl-C
    name = f"[{host}]" if ":" in host else host
    ready(f"http://{name}:{server.effective_port}/")
    server.run()
