"""Name resolution under guard: the addresses that leave here are those that are connected to."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

from outbox.channels.egress import Egress, EgressRefused

# Threads of their own, and enough of them: names whose servers do not answer take half a minute each, and may hold up
# neither each other nor anything else that runs in the event loop's threads.
_LOOKUPS_AT_ONCE = 32


class GuardedResolver(AbstractResolver):
    """Resolves a name once and keeps the addresses that ``egress`` permits."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._threads = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, "outbox-dns")

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """The permitted addresses of ``host``.

        Raises :class:`OSError` when the name has none, :class:`~outbox.channels.egress.EgressRefused` when none of them
        is permitted.
        """
        loop = asyncio.get_running_loop()
        found = dict.fromkeys(await loop.run_in_executor(self._threads, _look_up, host, port, family))
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=socket.IPPROTO_TCP, flags=_NUMERIC)
            for address in self._egress.only_permitted(host, found)
        ]

    async def close(self) -> None:
        """Give the threads back; a lookup under way is left to end by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[str]:
    try:
        answers = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError:  # a label that is empty or too long
        raise EgressRefused("the target's host is not a valid name") from None
    return [str(address[0]) for _, _, _, _, address in answers]
