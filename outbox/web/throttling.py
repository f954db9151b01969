"""Throttled log-ins: who guesses waits, longer after each wrong guess, by address and by name."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

FREE_GUESSES = 5
LONGEST_WAIT_S = 60.0
"""Short enough that nobody can lock somebody else out for long."""
FORGOTTEN_AFTER_S = 900.0
_MOST_KEYS = 10_000


class Throttle:
    """Wrong guesses in a row by key, in the memory of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, keys: Iterable[str]) -> float:
        """How long to wait before the next guess under any of these keys; 0 when it may be made now."""
        with self._lock:
            return max(map(self._wait_s, keys), default=0.0)

    def failed(self, keys: Iterable[str]) -> None:
        """A guess under these keys was wrong."""
        with self._lock:
            for key in keys:
                count, _ = self._recent(key)
                self._failures[key] = (count + 1, self._clock())
                self._failures.move_to_end(key)
            while len(self._failures) > _MOST_KEYS:
                self._failures.popitem(last=False)

    def succeeded(self, keys: Iterable[str]) -> None:
        """A guess under these keys was right: they begin anew."""
        with self._lock:
            for key in keys:
                self._failures.pop(key, None)

    def _wait_s(self, key: str) -> float:
        count, last = self._recent(key)
        if count < FREE_GUESSES:
            return 0.0
        pause_s = min(2.0 ** (count - FREE_GUESSES), LONGEST_WAIT_S)
        return max(0.0, last + pause_s - self._clock())

    def _recent(self, key: str) -> tuple[int, float]:
        count, last = self._failures.get(key, (0, 0.0))
        return (count, last) if self._clock() - last < FORGOTTEN_AFTER_S else (0, 0.0)
