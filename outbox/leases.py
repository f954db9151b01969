"""The leases of one delivery loop: how long a send may hold its row, and the heartbeat of those that hold it for long."""

import math
import time
from collections.abc import Iterable

from outbox.channels.base import Channel
from outbox.message import Message
from outbox.recording import Recorder
from outbox.store.protocol import Store
from outbox.store.records import Taker

LEASE_MARGIN_S = 10.0
"""Beyond the timeout: twice SQLite's busy timeout, so that a settle which waits for the write lock still comes in time."""
LONGEST_UNEXTENDED_LEASE_S = 60.0
"""A longer timeout is held by heartbeats, so that a dead worker is found after a minute and not after the whole timeout."""


class Leases:
    """What rows are taken with, and how they are kept."""

    def __init__(self, store: Store, recorder: Recorder, channel: Channel, owner: str) -> None:
        self._store = store
        self._recorder = recorder
        self.longest_s = channel.timeout + LEASE_MARGIN_S
        """For how long after its attempt began a row may be held, whatever heartbeats say."""
        lease_s = min(self.longest_s, LONGEST_UNEXTENDED_LEASE_S)
        self.taker = Taker(channel.name, owner, round(lease_s * 1000))
        self._every_s = lease_s / 3 if lease_s < self.longest_s else math.inf
        self.extend_at = time.monotonic() + self._every_s
        """When the next heartbeat is due (monotonic seconds)."""

    def extend_when_due(self, held: Iterable[Message]) -> set[str]:
        """Extend the leases of these when it is time; returns the ids of those that are somebody else's by now.

        A heartbeat that the database refuses costs nothing yet: the next one comes before the lease is over.
        """
        now = time.monotonic()
        if now < self.extend_at:
            return set()
        self.extend_at = now + self._every_s
        messages = list(held)
        if not messages:
            return set()
        lease_ms, longest_ms = self.taker.run_lease_ms, round(self.longest_s * 1000)
        still_held = self._recorder.attempt(
            self.taker.channel, lambda: self._store.extend(messages, run_lease_ms=lease_ms, longest_ms=longest_ms)
        )
        return set() if still_held is None else {message.id for message in messages} - still_held
