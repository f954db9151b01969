"""How long what is over is kept, and when its payload goes first."""

from dataclasses import dataclass

from outbox.lifecycle import Status

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Retention:
    """Times from completion, in milliseconds. ``blank_after_ms`` empties payload and headers before the row goes.

    Failures are kept at least as long as deliveries: they are what may have to be looked into, or replayed.
    """

    delivered_ms: int = 48 * HOUR_MS
    failed_ms: int = 30 * 24 * HOUR_MS
    blank_after_ms: int | None = None

    def __post_init__(self) -> None:
        if self.delivered_ms < 0 or self.failed_ms < self.delivered_ms:
            raise ValueError("failures are kept at least as long as deliveries, and neither for less than no time")
        if self.blank_after_ms is not None and self.blank_after_ms < 0:
            raise ValueError("blank_after_ms is 0 or more")

    def kept_ms(self, status: Status) -> int:
        """How long a row of this terminal status is kept."""
        return self.delivered_ms if status is Status.DELIVERED else self.failed_ms
