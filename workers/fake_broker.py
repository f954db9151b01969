"""``python -m workers.fake_broker SOCKET``: fakeredis as a server on a Unix socket, for machines that have no other broker.

Nothing outlives the process, and it is slow: for development only.
"""

import itertools
import signal
import socket
import sys
import threading
from pathlib import Path

from fakeredis import TcpFakeServer


class UnixFakeServer(TcpFakeServer):
    """fakeredis's server on a Unix socket, where no delayed acknowledgement slows small answers down."""

    address_family = socket.AF_UNIX
    daemon_threads = True

    def __init__(self, path: str) -> None:
        self._connections = itertools.count(1)
        Path(path).unlink(missing_ok=True)  # left by one that was killed
        super().__init__(path)  # type: ignore[arg-type]

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept, with an address that tells connections apart; peers of a Unix socket have none."""
        connection, _ = super().get_request()
        return connection, ("unix", next(self._connections))


def main() -> None:
    """Serve until SIGTERM."""
    with UnixFakeServer(sys.argv[1]) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()


if __name__ == "__main__":
    main()
