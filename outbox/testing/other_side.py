"""The other side of a channel under test: it accepts, refuses, is busy, says nothing, or is away, as the test wants it."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol


class Mood(StrEnum):
    """How the other side behaves."""

    ACCEPTING = "accepting"
    REFUSING = "refusing"
    """It refuses for good: the message is wrong, or its target does not exist."""
    BUSY = "busy"
    """It refuses in passing, and has accepted nothing."""
    SILENT = "silent"
    """It takes the request and never answers."""
    AWAY = "away"
    """Nobody listens there."""


class OtherSide(Protocol):
    """What :class:`~outbox.testing.conformance.ChannelConformance` asks of what the channel talks to."""

    @property
    def requests(self) -> Sequence[str]:
        """What has arrived, as text: whatever a person would recognise a message and its idempotency key in."""

    def turn(self, mood: Mood) -> None:
        """Behave like that from now on; ``accepting`` is how it begins."""


@dataclass(frozen=True)
class Request:
    """One HTTP request. Header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def __str__(self) -> str:
        headers = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
        return f"{self.method} {self.path}\n{headers}\n\n{self.body.decode(errors='replace')}"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpOtherSide:
    """An HTTP server on loopback. Made by :func:`http_other_side`."""

    def __init__(self, server: ThreadingHTTPServer, answers: Mapping[Mood, Callable[[Request], Answer]]) -> None:
        self._server = server
        self._answers = answers
        self._mood = Mood.ACCEPTING
        self._over = threading.Event()
        self._received: list[Request] = []

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def received(self) -> Sequence[Request]:
        """The requests, taken apart."""
        return self._received

    @property
    def requests(self) -> Sequence[str]:
        return [str(request) for request in self._received]

    def turn(self, mood: Mood) -> None:
        self._mood = mood
        if mood is Mood.AWAY:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, request: Request) -> Answer | None:
        """The answer to a request, or ``None`` for silence; waits then until the test is over."""
        self._received.append(request)
        if self._mood is Mood.SILENT:
            self._over.wait()
            return None
        return self._answers[self._mood](request)

    def close(self) -> None:
        """Nobody waits for an answer any more."""
        self._over.set()
        if self._mood is not Mood.AWAY:
            self._server.shutdown()
            self._server.server_close()


@contextmanager
def http_other_side(
    accepting: Callable[[Request], Answer] = lambda _request: Answer(),
    refusing: Callable[[Request], Answer] = lambda _request: Answer(400),
    busy: Callable[[Request], Answer] = lambda _request: Answer(503),
) -> Iterator[HttpOtherSide]:
    """An HTTP server on loopback, with an answer for each mood, that listens while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = here.answer(Request(self.command, self.path, headers, body))
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {**answer.headers, "content-length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_PATCH = _serve  # noqa: N815 - as the base class looks for them

        def log_message(self, *_arguments: Any) -> None:
            """Tests have their own record."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here = HttpOtherSide(server, {Mood.ACCEPTING: accepting, Mood.REFUSING: refusing, Mood.BUSY: busy})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.close()
        thread.join()
