"""Time as the outbox counts it: whole milliseconds since the epoch, UTC."""

import time
from typing import Protocol


class Clock(Protocol):
    """A source of wall-clock time. Tests pass their own."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z."""
        ...


class SystemClock:
    """The host's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
