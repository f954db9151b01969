"""What a delivery task tells about its channel and targets: not ready, gone, failing in a row, or well again."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial

from outbox.channels.base import Channel
from outbox.clock import Clock
from outbox.message import Message
from outbox.outcome import Deferred, Delivered, Outcome, Rejected, Retry, Unknown
from outbox.policy import retry
from outbox.policy.destination import Breaker
from outbox.recording import Recorder
from outbox.store.protocol import Store
from outbox.store.records import GateKind

WHOLE_CHANNEL = ""

_CLOSED_FOR_S = 1.0
"""For so long after a breaker opened there may come what was claimed before, and nothing that is to probe."""
_WELL_FOR_S = 0.25
"""For so long nobody asks again whether failures are on record where there were none: a few more may be counted in a row."""


class RecentHealth:
    """What one process has learned a moment ago of a channel's targets, so that not each of its tasks has to learn it anew.

    Moments are those of ``clock`` where there is one, whose owner may advance it until breakers are half open; else of one that
    never jumps.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._closed_until: dict[str, float] = {}
        self._well_until: dict[str, float] = {}

    def open_breakers(self, targets: Collection[str], open_s: float) -> None:
        """The breakers of these have opened, for so many seconds at the least."""
        self._remember(self._closed_until, targets, min(open_s, _CLOSED_FOR_S))

    def close_breakers(self, targets: Collection[str]) -> None:
        """Successes were heard of these."""
        for target in targets:
            self._closed_until.pop(target, None)

    def closed(self) -> set[str]:
        """Whose breaker has opened a moment ago."""
        now = self._now()
        return {target for target, until in list(self._closed_until.items()) if now < until}

    def has_failed(self, target: str) -> None:
        """A failure was heard of it."""
        self._well_until.pop(target, None)

    def is_clean(self, targets: Collection[str]) -> None:
        """No failures of these are on record."""
        self._remember(self._well_until, targets, _WELL_FOR_S)

    def is_well(self, target: str) -> bool:
        """Whether, as of a moment ago, no failures of it are on record."""
        return self._now() < self._well_until.get(target, 0.0)

    def _remember(self, until: dict[str, float], targets: Collection[str], for_s: float) -> None:
        """And forget what has passed: a process meets any number of targets in its life."""
        now = self._now()
        for target in [target for target, moment in list(until.items()) if moment <= now]:
            until.pop(target, None)
        until.update(dict.fromkeys(targets, now + for_s))

    def _now(self) -> float:
        return time.monotonic() if self._clock is None else self._clock.now_ms() / 1000


class Gatekeeper:
    """Gathers what outcomes say about gates, and writes it once for each group of outcomes.

    Late or lost, such a write costs a few attempts at the most; so it waits until the outcomes themselves are recorded.
    """

    def __init__(self, store: Store, recorder: Recorder, channel: Channel, health: RecentHealth, *, watched: bool) -> None:
        self._store = store
        self._health = health
        self._recorder = recorder
        self._channel = channel
        self.watched = watched
        """Whether a breaker of the channel counts failures, so that successes matter to it."""
        self._failures: Counter[str] = Counter()
        self._well: set[str] = set()
        self._reason = ""
        self._closures: list[Callable[[], object]] = []
        self.closed = health.closed()
        """The targets whose breaker has opened since the claims were made, or :data:`WHOLE_CHANNEL`."""

    def begin_anew(self) -> None:
        """Claims have joined that were made after those breakers opened, perhaps to see whether a target is well again."""
        self.closed = self._health.closed()

    def hear(self, message: Message, outcome: Outcome | None) -> bool:
        """Take an outcome into account; whether the task may begin further sends."""
        match outcome:
            case Delivered():
                self._count(message, None)
            case Retry(error) | Unknown(error):
                self._count(message, error)
            case Deferred(reason, after_ms):
                self._close_channel(reason, retry.deferral_ms(after_ms))
                return False
            case Rejected(error, destination_gone) if destination_gone and message.target:
                self._close_target(message.target, error)
        return True

    def write(self) -> None:
        """Tell the store."""
        name = self._channel.name
        closures, self._closures = self._closures, []
        well, self._well = self._well, set()
        failures, self._failures = +self._failures, Counter()
        if well and self.watched:
            closures.append(partial(self._note_successes, well))
        whole = Counter({WHOLE_CHANNEL: failures.pop(WHOLE_CHANNEL, 0)})
        for counted, breaker in ((failures, self._channel.target_breaker), (+whole, self._channel.channel_breaker)):
            if counted and breaker is not None:
                self.watched = True
                closures.append(partial(self._note_failures, counted, breaker))
        for write in closures:
            self._recorder.attempt(name, write)

    def _note_failures(self, failures: Mapping[str, int], breaker: Breaker) -> None:
        opened = self._store.note_failures(self._channel.name, failures, breaker, reason=self._reason)
        self._health.open_breakers(opened, breaker.open_s)
        self.closed |= opened

    def _note_successes(self, targets: Collection[str]) -> None:
        failed = self._store.note_successes(self._channel.name, targets)
        self._health.close_breakers(failed)
        self._health.is_clean(targets)

    def _count(self, message: Message, failure: str | None) -> None:
        """Failures in a row: a success begins the row anew, and where nobody counts there is none."""
        if failure is None and not (self._failures or self.watched):
            return
        self._reason = failure or self._reason
        for target in {message.target, WHOLE_CHANNEL}:
            if failure is None:
                self._failures[target] = 0
                if not self._health.is_well(target):
                    self._well.add(target)
            else:
                self._failures[target] += 1
                self._health.has_failed(target)

    def _close_channel(self, reason: str, at_least_ms: int) -> None:
        close = self._store.close_growing
        self._closures.append(partial(close, self._channel.name, GateKind.NOT_READY, at_least_ms=at_least_ms, reason=reason))

    def _close_target(self, target: str, reason: str) -> None:
        close = self._store.close
        self._closures.append(partial(close, self._channel.name, target, GateKind.GONE, for_ms=None, reason=reason))
