"""A TCP proxy before a server that can swallow an answer: what a network does when it breaks at the worst moment."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Passes bytes on both ways, until it is told to lose the answer to a request."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lose_answer_to: bytes | None = None
        self.lost = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def lose_the_answer_to(self, request: bytes) -> None:
        """Let the next message that contains ``request`` reach the server, and cut the line before the answer comes back."""
        self.lost.clear()
        self._lose_answer_to = request

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                cut = threading.Event()
                threading.Thread(target=self._pass_requests, args=(client, server, cut), daemon=True).start()
                threading.Thread(target=self._pass_answers, args=(server, client, cut), daemon=True).start()

    def _pass_requests(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self._lose_answer_to is not None and self._lose_answer_to in data:
                    self._lose_answer_to = None
                    cut.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _pass_answers(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if cut.is_set():
                    break
                client.sendall(data)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # a close alone would wait for the other thread's recv
            end.close()
        if cut.is_set():
            self.lost.set()


@contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    """A proxy that runs as long as the block does."""
    running = Proxy(host, port)
    try:
        yield running
    finally:
        running.close()
