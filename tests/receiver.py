"""An HTTP server on loopback that does to its clients, byte by byte, what a test tells it to do."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Received:
    """One request as it arrived. Header names are lower-case."""

    method: str
    path: str
    headers: dict[str, str]
    header_names: list[str]
    body: bytes
    connection: int
    """Which connection brought it, counted from 1."""


Behaviour = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Behaviour:
    """A complete answer."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def raw(data: bytes) -> Behaviour:
    """These bytes, whatever they are; the connection stays open."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return behave


def then_reset(data: bytes = b"") -> Behaviour:
    """These bytes, then the connection is reset."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        # A close that does not linger is a reset on the wire.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return behave


def then_close(data: bytes = b"") -> Behaviour:
    """These bytes, then an orderly close."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return behave


async def hang(request: Received, writer: asyncio.StreamWriter) -> None:
    """No answer, ever."""
    await asyncio.Event().wait()


def drip(head: bytes, drop: bytes = b".", every_s: float = 0.01) -> Behaviour:
    """``head``, then drops without end."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(every_s)

    return behave


def pour(head: bytes, size: int, piece: bytes = b"x" * 65_536) -> Behaviour:
    """``head``, then ``size`` bytes, a piece at a time, as fast as the client takes them."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(0, size, len(piece)):
            writer.write(piece)
            await writer.drain()

    return behave


@dataclass
class Receiver:
    """Keeps every request; ``behaviour`` answers each, after those in ``first`` have answered one each."""

    behaviour: Behaviour = field(default_factory=answer)
    first: list[Behaviour] = field(default_factory=list)
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    tls: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hook"

    @property
    def last(self) -> Received:
        return self.requests[-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        try:
            while not writer.is_closing() and (request := await _read(reader, connection)) is not None:
                self.requests.append(request)
                behaviour = self.first.pop(0) if self.first else self.behaviour
                await behaviour(request, writer)
        except ConnectionError:
            pass  # the client has gone, as some tests want it to
        finally:
            writer.transport.abort()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that listens while the block runs; connections still open at its end are cut."""
    receiver = Receiver(tls=tls is not None)
    handlers: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.ensure_future(receiver.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls, backlog=1024)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, connection: int) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    headers = dict(pairs)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, [name for name, _ in pairs], body, connection)
