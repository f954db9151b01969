"""A TCP proxy before a server: it does to those who connect through it what networks do to those who connect over them."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import make_url

COMMIT = b"COMMIT\0"
"""What PostgreSQL is sent; a BEGIN may end in the same word, of READ COMMITTED, and the statement's end tells them apart."""
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes on, both ways, until it is told otherwise. What it is told holds for open connections and for new ones."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._flows = threading.Event()
        self._flows.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._lose_answer_to: bytes | None = None
        self.lost = threading.Event()
        self.delay_s = 0.0
        """What every piece waits on its way."""
        self.carried = 0
        """Bytes that have come through."""
        self._listen()

    def lose_the_answer_to(self, request: bytes) -> None:
        """Let the next message that contains ``request`` reach the server, and cut the line before the answer comes back."""
        self.lost.clear()
        self._lose_answer_to = request

    def cut(self) -> int:
        """Reset every open connection; how many there were. New ones come through."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)  # a close alone would wait for the other thread's recv
            end.close()
        return len(ends) // 2

    def freeze(self) -> None:
        """Go half-open: connections stand, new ones are taken, and nothing comes through in either direction."""
        self._flows.clear()

    def refuse(self) -> None:
        """Reset what is open, and refuse what is new."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # or the thread that accepts would hold it open
            listener.close()
        self.cut()

    def mend(self) -> None:
        """Be a good line again. Whoever waited on a half-open connection is reset, as by a firewall that has forgotten it."""
        if not self._flows.is_set():
            self.cut()
            self._flows.set()
        self.delay_s = 0.0
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._listen()

    def close(self) -> None:
        self.refuse()
        self._flows.set()  # lets the threads see it

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server)
        except OSError:
            client.close()
            return
        with self._lock:
            self._open |= {client, server}
        cut = threading.Event()
        answers = threading.Thread(target=self._pass_on, args=(server, client, cut, False), daemon=True)
        answers.start()
        self._pass_on(client, server, cut, True)

    def _pass_on(self, source: socket.socket, target: socket.socket, cut: threading.Event, is_request: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay_s)
                self._flows.wait()
                if is_request and self._lose_answer_to is not None and self._lose_answer_to in data:
                    self._lose_answer_to = None
                    cut.set()
                elif not is_request and cut.is_set():
                    break
                target.sendall(data)
                self.carried += len(data)
        if is_request and cut.is_set():
            return  # the answer that is lost has yet to come
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        with self._lock:
            self._open -= {source, target}
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


@contextmanager
def line_to(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the broker or the PostgreSQL that ``url`` names, and the URL that leads through it."""
    wanted = make_url(url)
    with proxy(str(wanted.host), int(wanted.port or 5432)) as line:
        through = wanted.set(host="127.0.0.1", port=line.port)
        if wanted.get_backend_name() == "postgresql":
            through = through.update_query_dict({"sslmode": "disable"})  # what is encrypted cannot be looked into
        yield line, through.render_as_string(hide_password=False)
