"""A broker that cannot be trusted: it loses, repeats, reorders and holds back what is in its queues, while nodes work."""

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Collection
from enum import StrEnum
from typing import Any

import redis

HELD_S = 2.0
"""Longer than a message may wait in the broker before it is published again."""


class Kind(StrEnum):
    """What becomes of a message that the broker gets hold of."""

    LOST = "lost"
    REPEATED = "repeated"
    REORDERED = "reordered"
    HELD_BACK = "held back"


class Mischief:
    """Works on the lists of a Redis-protocol broker for the length of a ``with`` block, ``times`` in each of its kinds.

    Without an end to it nobody could say when every message must have come to rest.
    """

    def __init__(self, broker: str, queues: Collection[str], times: int, chance: random.Random) -> None:
        self._client: Any = redis.Redis.from_url(broker)
        self._queues = list(queues)
        self._chance = chance
        self._held: deque[tuple[float, str, bytes]] = deque()
        self._seen: list[tuple[str, bytes]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.left = Counter(dict.fromkeys(Kind, times))

    def __enter__(self) -> "Mischief":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of what was held back, and send everything that ever came by once more."""
        self._over.set()
        self._thread.join()
        for queue, message in [*((queue, message) for _, queue, message in self._held), *self._seen]:
            self._client.lpush(queue, message)

    def waiting(self) -> int:
        """How many messages no node has received yet."""
        return sum(self._client.llen(queue) for queue in self._queues)

    def close(self) -> None:
        self._client.close()

    def _run(self) -> None:
        while not self._over.wait(0.001):
            for queue in self._chance.sample(self._queues, len(self._queues)):
                message = self._client.rpop(queue) if self.left else None  # the next in turn
                if message is not None:
                    self._seen.append((queue, message))
                    self._mistreat(queue, message, self._chance.choice(list(self.left)))
            while self._held and self._held[0][0] < time.monotonic():
                _, queue, message = self._held.popleft()
                self._client.lpush(queue, message)

    def _mistreat(self, queue: str, message: bytes, kind: Kind) -> None:
        self.left -= Counter([kind])
        match kind:
            case Kind.LOST:
                pass
            case Kind.REPEATED:
                self._client.rpush(queue, *[message] * 3)
            case Kind.REORDERED:
                self._client.lpush(queue, message)
            case Kind.HELD_BACK:
                self._held.append((time.monotonic() + HELD_S, queue, message))
