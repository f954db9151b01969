"""Which channels have made others wait, as every process knows that was forked from the same one."""

import mmap
import time
from zlib import crc32

REMEMBERED_S = 300.0
"""Seconds after somebody had to wait for a slow send."""
_PLACES = 4096
"""Where two channels share one, the other makes way without need."""


class SlowChannels:
    """One process finds out, and the others of its pool, whose sends would have been as slow, need not."""

    def __init__(self) -> None:
        self._until = memoryview(mmap.mmap(-1, _PLACES * 8)).cast("d")

    def add(self, channel: str) -> None:
        """Somebody has waited for it, now."""
        self._until[_place(channel)] = time.monotonic() + REMEMBERED_S

    def until(self, channel: str) -> float:
        """Until when it counts as slow (monotonic seconds)."""
        return self._until[_place(channel)]

    def __contains__(self, channel: str) -> bool:
        return time.monotonic() < self.until(channel)


def _place(channel: str) -> int:
    return crc32(channel.encode()) % _PLACES
