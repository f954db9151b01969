"""Delivery tasks of one process: what they share, and those that go on aside when their slot in the pool is wanted."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from outbox.batching import Batch
from outbox.channels.base import Channel
from outbox.clock import Clock
from outbox.delivery_loop import DeliveryLoop, ProcessMeans
from outbox.delivery_report import DeliveryReport
from outbox.gatekeeping import RecentHealth
from outbox.recording import END_S, Recorder
from outbox.senders import Senders
from outbox.slots import Slot
from outbox.slowness import SlowChannels
from outbox.store.protocol import Store
from outbox.telemetry import Telemetry

_log = logging.getLogger("outbox")

_SLOW_SEND_S = 0.02
"""Seconds that one send of a channel may take that has made others wait, before its task steps aside unasked."""


class Delivery:
    """What the delivery tasks of one process share: the store, the senders, and outcomes that could not be recorded yet."""

    def __init__(
        self, store: Store, telemetry: Telemetry, owner: Callable[[], str], clock: Clock | None = None,
        slow_channels: SlowChannels | None = None,
    ) -> None:  # fmt: skip
        self.store = store
        self.telemetry = telemetry
        self.owner = owner
        self.slow_channels = slow_channels or SlowChannels()
        self.senders = Senders()
        self.recorder = Recorder(store, telemetry)
        self._loops: set[DeliveryLoop] = set()
        self._loops_changed = threading.Condition()
        self._clock = clock
        self._health: defaultdict[str, RecentHealth] = defaultdict(lambda: RecentHealth(clock))

    def run(
        self, channel: Channel, batch: Batch, *, budget_s: float = 60.0, should_stop: Callable[[], bool] = lambda: False,
        slot: Slot | None = None,
    ) -> DeliveryReport:  # fmt: skip
        """Deliver ``batch``; what has not begun when the budget (seconds) is spent, or when told to stop, is released.

        With a ``slot``, the task may step aside: it returns, and a thread of this process goes on.

        Raises what the database refused a take or a settle with, once every send under way has ended. The outcomes are kept,
        and recorded by the next run before it takes anything.
        """
        stop_at = time.monotonic() + budget_s
        if slot is not None and batch.claims and self._join(channel, batch, slot, stop_at):
            return DeliveryReport(aside=len(batch.claims))
        means = ProcessMeans(self.store, self.recorder, self.senders, self.telemetry, self.owner())
        room = None if slot is None else partial(self._room, channel, slot)
        health = self._health[channel.name]
        loop = DeliveryLoop(means, channel, batch, health, stop_at=stop_at, should_stop=should_stop, room=room)
        with self._loops_changed:
            self._loops.add(loop)
        try:
            if not loop.run(slot and self._shortened(channel, slot)) and slot is not None:
                return self._step_aside(loop, slot)
        finally:
            if not loop.is_aside:
                self._remove(loop)
        return loop.report

    def in_child(self) -> "Delivery":
        """The same for a process that was forked: it has none of these threads, tasks and outcomes."""
        return Delivery(self.store, self.telemetry, self.owner, self._clock, self.slow_channels)

    def forget_health(self, channel: str) -> None:
        """Somebody knows better than what this process has learned of the channel's targets."""
        self._health.pop(channel, None)

    def close(self, channels: Sequence[Channel], timeout_s: float = 5.0) -> None:
        """Stop sending, wait for the tasks under way, and record what could not be recorded so far.

        Raises what the database refuses that with.
        """
        with self._loops_changed:
            for loop in self._loops:
                loop.stop()
        senders, self.senders = self.senders, Senders()  # what is still at it begins nothing; whoever comes later may
        senders.close(channels)
        with self._loops_changed:
            self._loops_changed.wait_for(lambda: not self._loops, timeout_s)
        self.recorder.close()

    def finish(self, timeout_s: float = END_S) -> None:
        """The process ends in good order: wait for what goes on aside, and record what could not be recorded so far.

        What the database still refuses after ``timeout_s`` is told, and counts as unknown once its lease is over.
        """
        self.finish_aside()
        try:
            self.recorder.close(timeout_s)
        except Exception as error:
            _log.error("this process ends with outcomes that are not on record: %s", error)

    def finish_aside(self) -> None:
        """Let what goes on aside begin nothing new, and wait for it as a pool does for its tasks: as long as sends may take."""
        with self._loops_changed:
            aside = self._aside()
            for loop in aside:
                loop.stop()
            self._loops_changed.wait_for(lambda: not self._aside(), max((loop.longest_lease_s for loop in aside), default=0.0))

    def _aside(self) -> list[DeliveryLoop]:
        return [loop for loop in self._loops if loop.is_aside]

    def _of(self, channel: Channel) -> list[DeliveryLoop]:
        return [loop for loop in list(self._loops) if loop.channel is channel]

    def _room(self, channel: Channel, slot: Slot) -> int:
        """How many sends more the process may begin, so that it has no more under way than slots of the channel would."""
        return slot.beside * channel.concurrency - sum(loop.under_way for loop in self._of(channel))

    def _join(self, channel: Channel, batch: Batch, slot: Slot, stop_at: float) -> bool:
        """Whether a loop that has stepped aside takes these too; not while there are fewer loops than there may be tasks."""
        loops = self._of(channel)
        if len(loops) < slot.beside:
            return False
        aside = sorted((loop for loop in loops if loop.is_aside), key=lambda loop: loop.waiting)
        return any(loop.join(batch, stop_at) for loop in aside)

    def _shortened(self, channel: Channel, slot: Slot) -> Slot:
        if channel.name not in self.slow_channels:
            return slot
        return replace(slot, is_wanted=lambda: True, send_s=min(slot.send_s, _SLOW_SEND_S))

    def _step_aside(self, loop: DeliveryLoop, slot: Slot) -> DeliveryReport:
        if loop.is_slow(slot.send_s) and slot.is_wanted():
            self.slow_channels.add(loop.channel.name)
        report = loop.step_aside(slot.wake)
        thread = threading.Thread(target=self._go_on, args=(loop, slot), name="outbox-aside", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there is no room for another thread: others wait
            self._go_on(loop, slot)
        return report

    def _go_on(self, loop: DeliveryLoop, slot: Slot) -> None:
        try:
            loop.run()
        except Exception:
            _log.exception("deliveries of channel %s ended early", loop.channel.name)
        finally:
            self._remove(loop)
            if loop.report.leaves_work:
                slot.wake()

    def _remove(self, loop: DeliveryLoop) -> None:
        with self._loops_changed:
            self._loops.remove(loop)
            self._loops_changed.notify_all()
