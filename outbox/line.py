"""The claims of one delivery task that have not begun, lined up by ordering key."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from outbox.message import Claim


class Line:
    """The first claim of each ordering key is ready; the next becomes so when that one has been delivered.

    Where there is more room than claims that are ready, those behind them may be taken up with them, ``key_window`` of each
    key: taken in one transaction, sent one after another.

    Claims that came through a broker name their key by a number of that task alone; so a message is asked for by its id.
    """

    def __init__(self, claims: Iterable[Claim] = (), *, key_window: int = 1) -> None:
        self._key_window = key_window
        self._ready: deque[Claim] = deque()
        self._behind: dict[str, deque[Claim]] = {}
        self._keys: dict[str, str] = {}
        for claim in claims:
            self.add(claim)

    def __len__(self) -> int:
        return len(self._ready) + sum(map(len, self._behind.values()))

    def __iter__(self) -> Iterator[Claim]:
        """All that stand in it."""
        return chain(self._ready, *self._behind.values())

    def add(self, claim: Claim) -> None:
        """A claim at the end of the line, or behind those of its ordering key."""
        if claim.ordering_key is not None:
            self._keys[claim.id] = claim.ordering_key
            if claim.ordering_key in self._behind:
                self._behind[claim.ordering_key].append(claim)
                return
            self._behind[claim.ordering_key] = deque()
        self._ready.append(claim)

    def keep_keys_of(self, message_ids: Collection[str]) -> None:
        """Forget the ordering keys of all others."""
        self._keys = {message_id: self._keys[message_id] for message_id in message_ids if message_id in self._keys}
        self._behind = {key: self._behind.get(key, deque()) for key in self._keys.values()}

    @property
    def ready(self) -> int:
        """How many could begin now."""
        return len(self._ready)

    def take_up(self, count: int) -> list[Claim]:
        """Up to ``count`` claims that leave the line: those that are ready, in order, then those behind them, key by turns."""
        window = [self._ready.popleft() for _ in range(min(count, len(self._ready)))]
        following = [behind for claim in window if (behind := self._behind_of(claim.id))]
        for _ in range(self._key_window - 1):
            for behind in following:
                if behind and len(window) < count:
                    window.append(behind.popleft())
        return window

    def follow(self, message_id: str) -> None:
        """The message was delivered: the next one of its ordering key becomes ready."""
        if behind := self._behind_of(message_id):
            self._ready.append(behind.popleft())

    def leave_behind(self, message_id: str) -> list[Claim]:
        """The message was not delivered: those behind it leave the line."""
        key = self._keys.get(message_id)
        return [] if key is None else list(self._behind.pop(key, ()))

    def leave(self) -> list[Claim]:
        """All leave the line, ready or not."""
        rest = list(self)
        self._ready.clear()
        self._behind.clear()
        return rest

    def _behind_of(self, message_id: str) -> deque[Claim] | None:
        key = self._keys.get(message_id)
        return None if key is None else self._behind.get(key)
