"""The place of a task in a pool, and when to give it up for others."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

ASK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a task in a pool, where others may wait for one."""

    is_wanted: Callable[[], bool]
    """Whether somebody waits for it."""
    wake: Callable[[], None]
    """Called when rows became due after the slot was given back."""
    send_s: float = 0.1
    """Seconds that one send may take while others wait."""
    patience_s: float = 1.0
    """Seconds for which the task may keep it for many sends, each of them quicker."""
    beside: int = 1
    """How many slots its process has, and so how many tasks of one channel may send in it."""


class Patience:
    """That of those who wait for a slot: it is over for one slow send, and in the end for any number of quick ones."""

    def __init__(self, slot: Slot | None) -> None:
        """Without a slot it has no end."""
        self._slot = slot
        now = time.monotonic()
        self.ask_at = math.inf if slot is None else now + min(slot.send_s, slot.patience_s)
        """When to ask again (monotonic seconds)."""
        self._until = math.inf if slot is None else now + slot.patience_s

    def is_over(self, is_slow: Callable[[float], bool]) -> bool:
        """Whether to give up the slot; ``is_slow`` tells whether a send takes so many seconds already."""
        now = time.monotonic()
        if self._slot is None or now < self.ask_at:
            return False
        self.ask_at = now + min(ASK_EVERY_S, self._slot.send_s)
        return (now >= self._until or is_slow(self._slot.send_s)) and self._slot.is_wanted()
