"""What the engine tells, as counters and histograms: the listener at the event seam."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from outbox.channels.base import Channel
from outbox.integrations.prometheus import catalogue
from outbox.integrations.prometheus.catalogue import Family
from outbox.outcome import Delivered, Outcome
from outbox.policy.retry import RELEASED
from outbox.telemetry import (
    AttemptFinished,
    BrokerFailed,
    Enqueued,
    Event,
    LeaseLost,
    Maintained,
    Nudged,
    NudgeFailed,
    Pulled,
    RelayIdled,
    RelayPassed,
    SettleDelayed,
    TakeRefused,
)

_OUTCOMES = tuple(outcome.__name__.lower() for outcome in get_args(Outcome))


class Counting:
    """A telemetry listener. Raises :class:`ValueError` where the registry has these metrics already."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(family: Family) -> Counter:
            return Counter(family.name, family.meaning, family.labels, registry=registry)

        def histogram(family: Family) -> Histogram:
            return Histogram(family.name, family.meaning, family.labels, buckets=family.buckets, registry=registry)

        self._enqueued = counter(catalogue.ENQUEUED)
        self._nudges = counter(catalogue.NUDGES)
        self._relay_passes = counter(catalogue.RELAY_PASSES)
        self._pulls = counter(catalogue.PULLS)
        self._claimed = counter(catalogue.CLAIMED)
        self._redispatched = counter(catalogue.REDISPATCHED)
        self._tasks = counter(catalogue.TASKS)
        self._broker_failures = counter(catalogue.BROKER_FAILURES)
        self._take_refused = counter(catalogue.TAKE_REFUSED)
        self._attempts = counter(catalogue.ATTEMPTS)
        self._released = counter(catalogue.RELEASED)
        self._attempt_duration = histogram(catalogue.ATTEMPT_DURATION)
        self._due_to_sent = histogram(catalogue.DUE_TO_SENT)
        self._lease_lost = counter(catalogue.LEASE_LOST)
        self._settle_delayed = counter(catalogue.SETTLE_DELAYED)
        self._maintained = counter(catalogue.MAINTAINED)

        for result in ("published", "failed"):
            self._nudges.labels(result)

    def expect(self, channel: Channel) -> None:
        """Begin what counts for a channel at 0: whoever meets a counter at 1 cannot tell that it has just grown."""
        for metric in (
            self._pulls, self._take_refused, self._released, self._settle_delayed, self._attempt_duration, self._due_to_sent,
        ):  # fmt: skip
            metric.labels(channel.name)
        for outcome in _OUTCOMES:
            self._attempts.labels(channel.name, outcome)
            self._lease_lost.labels(channel.name, outcome)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case AttemptFinished():
                self._count_attempt(event)
            case Enqueued(channel, count):
                self._enqueued.labels(channel).inc(count)
            case RelayIdled() | RelayPassed() | Pulled() | BrokerFailed():
                self._count_claims(event)
            case Nudged():
                self._nudges.labels("published").inc()
            case NudgeFailed():
                self._nudges.labels("failed").inc()
            case TakeRefused(channel, count):
                self._take_refused.labels(channel).inc(count)
            case LeaseLost(_, channel, _, outcome):
                self._lease_lost.labels(channel, outcome).inc()
            case SettleDelayed(channel, count):
                self._settle_delayed.labels(channel).inc(count)
            case Maintained(service, rows):
                self._maintained.labels(service).inc(rows)
            case _:
                pass  # of a later release, or of somebody's own

    def _count_claims(self, event: RelayIdled | RelayPassed | Pulled | BrokerFailed) -> None:
        match event:
            case RelayIdled():
                self._relay_passes.inc()
            case RelayPassed(claimed, redispatched, tasks):
                self._relay_passes.inc()
                self._claimed.inc(claimed)
                self._redispatched.inc(redispatched)
                self._tasks.inc(tasks)
            case Pulled(channel, claimed, tasks):
                self._pulls.labels(channel).inc()
                self._claimed.inc(claimed)
                self._tasks.inc(tasks)
            case BrokerFailed():
                self._broker_failures.inc()

    def _count_attempt(self, event: AttemptFinished) -> None:
        if event.outcome == RELEASED:
            self._released.labels(event.channel).inc()
            return
        self._attempts.labels(event.channel, event.outcome).inc()
        self._attempt_duration.labels(event.channel).observe(event.duration_ms / 1000)
        if event.outcome == Delivered.__name__.lower():
            self._due_to_sent.labels(event.channel).observe((event.waited_ms + event.duration_ms) / 1000)
