"""The HTTP client of the channels: guarded egress, kept-alive connections, errors that say whether anything left."""

import asyncio
import io
import math
import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache

import aiohttp

from outbox.channels.answer import Answer
from outbox.channels.egress import Egress
from outbox.channels.resolver import GuardedResolver
from outbox.errors import DeliverySignal, OutcomeUnknown, PermanentFailure, RetryLater
from outbox.policy.classification import storable

CONNECT_TIMEOUT_S = 10.0
LONGEST_ANSWER = 16 * 1024

# Most servers close an idle connection after 5 seconds or more; a request that crosses the close has an unknown
# outcome.
_KEEP_ALIVE_S = 4.0
# The status has decided already: a body that drips may not hold the place of the next message.
_LONGEST_BODY_WAIT_S = 5.0
_TARGETS_REMEMBERED = 1024
_LARGE_BODY = 1024 * 1024
# Nothing is unpacked, so that a small answer stays small.
_HEADERS = {"User-Agent": "celery-outbox", "Accept-Encoding": "identity"}


class HttpClient:
    """Requests through guarded egress.

    ``ca_file`` names a file of authorities to trust in place of the system's; :class:`ValueError` when it is unreadable.
    A client belongs to one channel, so that a connection which one channel may open is never reused by another that may
    not. It can be made before a fork and used from any event loop: connections belong to the loop that opened them.
    """

    def __init__(
        self,
        egress: Egress,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        longest_answer: int = LONGEST_ANSWER,
        ca_file: str | None = None,
    ) -> None:
        self._egress = egress
        self._permitted = lru_cache(_TARGETS_REMEMBERED)(egress.url)
        self._connect_timeout_s = connect_timeout_s
        self._longest_answer = longest_answer
        self._tls = True if ca_file is None else trusting(ca_file)
        self._connections: dict[asyncio.AbstractEventLoop, _Connections] = {}

    async def request(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str], timeout_s: float
    ) -> Answer:
        """Send one request and return its answer, whatever the status. Redirects are not followed.

        Raises :class:`~outbox.RetryLater` when nothing was sent, :class:`~outbox.PermanentFailure` when the URL is
        refused, :class:`~outbox.OutcomeUnknown` when the request may have left and no answer came in ``timeout_s``
        seconds.
        """
        target = self._permitted(url)
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body
        try:
            response = await self._session().request(
                method, target, data=data, headers=headers, timeout=self._timeout(timeout_s), allow_redirects=False
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _signal(error, timeout_s) from None  # a traceback would show the URL, which may hold a token
        async with response:
            return Answer(response.status, response.headers, await self._read(response.content))

    async def download(self, url: str, *, longest: int, timeout_s: float) -> Answer:
        """Request what stands at ``url``; an answer with its whole body, of at most ``longest`` bytes.

        Raises as :meth:`request` does, also when half a body came, and :class:`~outbox.PermanentFailure` for a longer one.
        """
        try:
            async with self._session().get(
                self._permitted(url), timeout=self._timeout(timeout_s), allow_redirects=False
            ) as response:
                body = bytearray()
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > longest:
                        raise PermanentFailure(f"it is longer than {longest} bytes")
                return Answer(response.status, response.headers, bytes(body))
        except (aiohttp.ClientError, OSError) as error:
            raise _signal(error, timeout_s) from None

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        connections = self._connections.pop(asyncio.get_running_loop(), None)
        if connections is not None:
            await connections.close()

    def _session(self) -> aiohttp.ClientSession:
        # After a fork those of the parent's loop stay, untouched: closing them here would disturb sockets that it still uses.
        loop = asyncio.get_running_loop()
        if loop not in self._connections:
            self._connections[loop] = _Connections.open(self._egress, self._tls)
        return self._connections[loop].session

    def _timeout(self, timeout_s: float) -> aiohttp.ClientTimeout:
        # Connecting gets a little less than the whole, so that its time-out is told from one after the request left; and
        # neither is rounded up to whole seconds, where the two could meet.
        connect_s = min(self._connect_timeout_s, 0.9 * timeout_s)
        return aiohttp.ClientTimeout(total=timeout_s, connect=connect_s, ceil_threshold=math.inf)

    async def _read(self, content: aiohttp.StreamReader) -> bytes:
        """The body up to a limit in size and time. Broken, endless or dripping, it changes nothing about the status."""
        body = bytearray()
        # Nor does being cancelled: the status is known, and whoever is in a hurry gets it at once.
        with suppress(TimeoutError, aiohttp.ClientError, OSError, asyncio.CancelledError):
            if content.is_eof():
                return content.read_nowait(self._longest_answer)  # it came along with the head, as most do
            async with asyncio.timeout(_LONGEST_BODY_WAIT_S):
                while not content.at_eof() and len(body) < self._longest_answer:
                    body += await content.read(self._longest_answer - len(body))
        return bytes(body)


@dataclass(frozen=True, slots=True)
class _Connections:
    session: aiohttp.ClientSession
    resolver: GuardedResolver

    @classmethod
    def open(cls, egress: Egress, tls: ssl.SSLContext | bool) -> "_Connections":
        resolver = GuardedResolver(egress)
        # No limit: the delivery loop bounds the requests under way, and a wait for a place would look like a time-out.
        connector = aiohttp.TCPConnector(resolver=resolver, ssl=tls, limit=0, keepalive_timeout=_KEEP_ALIVE_S)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )
        return cls(session, resolver)

    async def close(self) -> None:
        await self.session.close()
        await self.resolver.close()


@cache
def _trusting_the_system() -> ssl.SSLContext:
    """One for all: to read the system's authorities takes longer than anything else that a channel does at its start."""
    return ssl.create_default_context()


def trusting(ca_file: str | None) -> ssl.SSLContext:
    """TLS that trusts the authorities in ``ca_file`` alone, else the system's. :class:`ValueError` when it is unreadable."""
    if ca_file is None:
        return _trusting_the_system()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ValueError(f"ca_file {ca_file!r} holds no certificates that can be read: {error.strerror}") from None


def _signal(error: aiohttp.ClientError | OSError, timeout_s: float) -> DeliverySignal:
    """What a request without an answer came to. The client's own texts are not used where they hold the URL."""
    match error:
        case aiohttp.InvalidURL():
            return PermanentFailure("the target is not a URL that can be requested")
        case aiohttp.ConnectionTimeoutError() | aiohttp.ClientConnectorError():
            return RetryLater(storable(f"no connection: {_obstacle(error)}"))
        case TimeoutError():
            return OutcomeUnknown(f"no answer within {timeout_s:g} s")
        case aiohttp.ClientResponseError():
            # Its status is the parser's own, not the server's.
            return OutcomeUnknown(storable(f"the answer is not HTTP: {' '.join(error.message.split())}"))
        case _:
            reason = f": {os.strerror(error.errno)}" if isinstance(error, OSError) and error.errno else ""
            return OutcomeUnknown(f"the connection was lost before an answer{reason}")


def _obstacle(error: aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError) -> str:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "timed out"
        case aiohttp.ClientConnectorCertificateError():
            return f"TLS certificate refused: {error.certificate_error}"
        case aiohttp.ClientConnectorDNSError():
            return f"host name not resolved: {error.os_error.strerror}"
        case _:
            return str(error.os_error)
