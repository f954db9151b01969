"""What a delivery task tells about its channel and targets: not ready, gone, failing in a row, or well again."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from outbox.channels.base import Channel
from outbox.message import Message
from outbox.outcome import Deferred, Delivered, Outcome, Rejected, Retry, Unknown
from outbox.policy import retry
from outbox.policy.destination import Breaker
from outbox.recording import Recorder
from outbox.store.protocol import Store
from outbox.store.records import GateKind

WHOLE_CHANNEL = ""


class Gatekeeper:
    """Gathers what outcomes say about gates, and writes it once for each group of outcomes.

    Late or lost, such a write costs a few attempts at the most; so it waits until the outcomes themselves are recorded.
    """

    def __init__(self, store: Store, recorder: Recorder, channel: Channel, *, watched: bool) -> None:
        self._store = store
        self._recorder = recorder
        self._channel = channel
        self.watched = watched
        """Whether a breaker of the channel counts failures, so that successes matter to it."""
        self._failures: Counter[str] = Counter()
        self._well: set[str] = set()
        self._reason = ""
        self._closures: list[Callable[[], object]] = []
        self.closed: set[str] = set()
        """The targets whose breaker has opened since the claims were made, or :data:`WHOLE_CHANNEL`."""

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

    def has_news(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._closures or +self._failures or (self.watched and self._well))

    def write(self) -> None:
        """Tell the store."""
        name = self._channel.name
        closures, self._closures = self._closures, []
        well, self._well = self._well, set()
        failures, self._failures = +self._failures, Counter()
        if well and self.watched:
            closures.append(lambda: self._store.note_successes(name, well))
        whole = Counter({WHOLE_CHANNEL: failures.pop(WHOLE_CHANNEL, 0)})
        for counted, breaker in ((failures, self._channel.target_breaker), (+whole, self._channel.channel_breaker)):
            if counted and breaker is not None:
                self.watched = True
                closures.append(partial(self._note_failures, counted, breaker))
        for write in closures:
            self._recorder.attempt(name, write)

    def _note_failures(self, failures: Mapping[str, int], breaker: Breaker) -> None:
        self.closed |= self._store.note_failures(self._channel.name, failures, breaker, reason=self._reason)

    def _count(self, message: Message, failure: str | None) -> None:
        """Failures in a row: a success begins the row anew, and where nobody counts there is none."""
        if failure is None and not (self._failures or self.watched):
            return
        self._reason = failure or self._reason
        for target in {message.target, WHOLE_CHANNEL}:
            if failure is None:
                self._failures[target] = 0
                self._well.add(target)
            else:
                self._failures[target] += 1

    def _close_channel(self, reason: str, at_least_ms: int) -> None:
        close = self._store.close_growing
        self._closures.append(partial(close, self._channel.name, GateKind.NOT_READY, at_least_ms=at_least_ms, reason=reason))

    def _close_target(self, target: str, reason: str) -> None:
        close = self._store.close
        self._closures.append(partial(close, self._channel.name, target, GateKind.GONE, for_ms=None, reason=reason))
