"""Maintenance: services of one shape, each bounded, each safe to run any number of times at once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outbox.channels.registry import ChannelRegistry
from outbox.lifecycle import Status
from outbox.message import Message
from outbox.policy import retry
from outbox.policy.retention import Retention
from outbox.store.protocol import Store
from outbox.store.records import Places
from outbox.telemetry import Maintained, Telemetry

BATCH = 500
_LOOKED_AT_A_PASS = 1_000
_OUTCOMES_A_PASS = 2_000
_START = ("", "")
LONGEST_LEASE_MS = 24 * 3_600_000
"""No timeout is longer; a lease beyond it was written by a clock that has jumped back since."""

_ORPHANS = retry.RetryPolicy(on_unknown=retry.OnUnknown.PARK)


@dataclass(frozen=True, slots=True)
class Service:
    """One kind of upkeep: ``run(limit)`` changes up to ``limit`` rows and returns how many it changed."""

    name: str
    run: Callable[[int], int]


class Maintenance:
    """Runs every service until it finds nothing more or the time is up. A failing one does not stop the others."""

    def __init__(
        self, store: Store, channels: ChannelRegistry, telemetry: Telemetry, retention: Retention, *, batch: int = BATCH
    ) -> None:
        self._store = store
        self._channels = channels
        self._telemetry = telemetry
        self.retention = retention
        self._batch = batch
        self._mended_to = _START
        self._unfutured_to: Places = {}
        self._blanked_to: dict[tuple[str, Status], int] = {}
        self.services: Sequence[Service] = (
            Service("expire", store.expire),
            Service("rescue", lambda limit: store.rescue(self._decide, limit)),
            Service("mend", self._mend),
            Service("unfuture", self._unfuture),
            Service("forget buckets", lambda _limit: store.forget_buckets()),
            Service("tally", lambda limit: store.tally(max(limit, _OUTCOMES_A_PASS))),
            Service("forget tallies", lambda _limit: store.forget_tallies()),
            Service("blank", self._blank),
            Service("prune", self._prune),
        )

    def run_once(self, *, budget_s: float = 4.0, should_stop: Callable[[], bool] = lambda: False) -> dict[str, int]:
        """One pass; returns the rows changed by service. Raises what the services raised, once all have had their turn."""
        started = time.monotonic()
        changed: dict[str, int] = {}
        failures: list[Exception] = []
        for service in self.services:
            try:
                changed[service.name] = self._run(service, started + budget_s, should_stop)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0] if len(failures) == 1 else ExceptionGroup("maintenance services failed", failures)
        return changed

    def rescue_owned(self, owner: str) -> int:
        """Bring back at once what a process proven dead was sending; returns how many rows."""
        return self._all(lambda limit: self._store.rescue(lambda it: self._decide(it, proven_dead=True), limit, owner=owner))

    def recall(self, owner: str, within_ms: int) -> int:
        """Make due again what a process proven dead had claimed, no longer ago than that, and nobody began; how many rows."""
        return self._all(lambda limit: self._store.recall(owner, within_ms, limit))

    def _all(self, run: Callable[[int], int]) -> int:
        total = 0
        while True:
            count = run(self._batch)
            total += count
            if count < self._batch:
                return total

    def _run(self, service: Service, until: float, should_stop: Callable[[], bool]) -> int:
        total = 0
        while True:
            count = service.run(self._batch)
            total += count
            if count < self._batch or time.monotonic() >= until or should_stop():
                break
        if total:
            self._telemetry.emit(Maintained(service.name, total))
        return total

    def _decide(self, message: Message, *, proven_dead: bool = False) -> retry.Verdict | None:
        if not self._channels.complete and message.channel not in self._channels:
            return None  # an application that only enqueues cannot tell an orphan from a channel of the workers'
        channel = self._channels.find(message.channel)
        if channel is None:
            error = "its channel is not registered any more, and its sender is gone"
            return retry.unknown(error, message, _ORPHANS, delay_ms=0)
        return retry.rescue(message, channel.retry_policy, proven_dead=proven_dead)

    def _mend(self, limit: int) -> int:
        cleared, next_key = self._store.mend(self._mended_to, max(limit, _LOOKED_AT_A_PASS))
        self._mended_to = next_key or _START
        return cleared

    def _unfuture(self, limit: int) -> int:
        changed, self._unfutured_to = self._store.unfuture(
            self._longest_retry_ms(), LONGEST_LEASE_MS, self._unfutured_to, max(limit, _LOOKED_AT_A_PASS)
        )
        return changed

    def _prune(self, limit: int) -> int:
        return sum(
            self._store.prune(kept.channel, kept.status, kept_ms, limit)
            for kept in self._store.completed()
            if kept.age_ms > (kept_ms := self.retention_of(kept.channel).kept_ms(kept.status))
        )

    def _longest_retry_ms(self) -> int:
        return max([retry.LONGEST_RETRY_AFTER_MS, *(channel.backoff.longest_ms for channel in self._channels)])

    def _blank(self, limit: int) -> int:
        """Row after row in order of completion: what was blanked once is not looked at again by this process."""
        total = 0
        for kept in self._store.completed() if self._blanks() else ():
            after_ms = self.retention_of(kept.channel).blank_after_ms
            if after_ms is None:
                continue
            place = (kept.channel, kept.status)
            count, self._blanked_to[place] = self._store.blank(*place, after_ms, self._blanked_to.get(place, 0), limit)
            total += count
        return total

    def _blanks(self) -> bool:
        own = (channel.retention for channel in self._channels)
        return any(retention is not None and retention.blank_after_ms is not None for retention in (self.retention, *own))

    def retention_of(self, channel: str) -> Retention:
        """The channel's own retention, else that of the outbox."""
        registered = self._channels.find(channel)
        return (registered.retention if registered is not None else None) or self.retention
