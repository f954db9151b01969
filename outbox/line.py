"""The claims of one delivery task that have not begun, lined up by ordering key."""

from collections import deque
from collections.abc import Iterable

from outbox.message import Claim


class Line:
    """The first claim of each ordering key is ready; the next becomes so when that one has been delivered.

    Claims that came through a broker name their key by a number of that task alone; so a message is asked for by its id.
    """

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._ready: deque[Claim] = deque()
        self._behind: dict[str, deque[Claim]] = {}
        self._keys: dict[str, str] = {}
        for claim in claims:
            if claim.ordering_key is not None:
                self._keys[claim.id] = claim.ordering_key
            if claim.ordering_key is not None and claim.ordering_key in self._behind:
                self._behind[claim.ordering_key].append(claim)
                continue
            if claim.ordering_key is not None:
                self._behind[claim.ordering_key] = deque()
            self._ready.append(claim)

    @property
    def ready(self) -> int:
        """How many could begin now."""
        return len(self._ready)

    def take_up(self, count: int) -> list[Claim]:
        """Up to ``count`` claims that are ready, in order; they leave the line."""
        return [self._ready.popleft() for _ in range(min(count, len(self._ready)))]

    def follow(self, message_id: str) -> None:
        """The message was delivered: the next one of its ordering key becomes ready."""
        key = self._keys.get(message_id)
        if key is not None and (behind := self._behind.get(key)):
            self._ready.append(behind.popleft())

    def leave_behind(self, message_id: str) -> list[Claim]:
        """The message was not delivered: those behind it leave the line."""
        key = self._keys.get(message_id)
        return [] if key is None else list(self._behind.pop(key, ()))

    def leave(self) -> list[Claim]:
        """All leave the line, ready or not."""
        rest = [*self._ready, *(claim for behind in self._behind.values() for claim in behind)]
        self._ready.clear()
        self._behind.clear()
        return rest
