"""The relay: finds due messages, claims them, and hands them out as delivery tasks. Any number may run at once."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

from outbox.batching import Batch, batches
from outbox.channels.base import Channel
from outbox.channels.registry import ChannelRegistry
from outbox.errors import BrokerUnavailable, OutboxError
from outbox.message import Message
from outbox.policy.destination import Limits, shares
from outbox.policy.texts import check_text
from outbox.store.protocol import Store
from outbox.store.records import Claimed, Gate, GateState, Lane, Stamp
from outbox.telemetry import BrokerFailed, Pulled, RelayIdled, RelayPassed, Telemetry

_log = logging.getLogger("outbox")

CLAIM_LIMIT = 500
_WORTH_A_CLAIM = 10
"""One part in so many of an allowance: where less is free, more will be in a moment."""
_STAMP_LIMIT = 500
_FIRST_BROKER_PAUSE_S = 1.0
_LONGEST_BROKER_PAUSE_S = 30.0


class Dispatcher(Protocol):
    """Hands batches to whoever delivers them."""

    def dispatch(self, batches: Sequence[Batch]) -> None:
        """Publish; raises :class:`~outbox.errors.BrokerUnavailable` when any of the batches may not have been accepted."""


@dataclass(slots=True)
class RelayReport:
    """What one pass did."""

    claimed: int = 0
    redispatched: int = 0
    tasks: int = 0
    stamped: int = 0


class Relay:
    """Runs passes over one store for the channels it knows."""

    def __init__(
        self, store: Store, channels: ChannelRegistry, dispatcher: Dispatcher, telemetry: Telemetry, owner: Callable[[], str],
        *, claim_limit: int = CLAIM_LIMIT,
    ) -> None:  # fmt: skip
        """``owner`` names this process, so that what it claimed comes back at once if it dies before it has published."""
        self._store = store
        self._channels = channels
        self._dispatcher = dispatcher
        self._telemetry = telemetry
        self._owner = owner
        self._claim_limit = claim_limit
        self._broker_failures = 0
        self._broker_rests_until = 0.0

    def run_once(
        self, *, budget_s: float = 0.75, should_stop: Callable[[], bool] = lambda: False, woken: bool = False
    ) -> RelayReport:
        """Dispatch until nothing is due, every allowance is used, or the budget (seconds) is spent.

        Beside an allowance that is almost used up each message that ends leaves room for one: a pass that was ``woken`` leaves
        such crumbs to the next tick, or until there are more.

        While the broker refuses, passes do nothing for a growing while: the rows stay due and nothing is charged. A channel
        that fails by itself does not stop the others; what it failed with is raised when they have had their turn.
        """
        report = RelayReport()
        failures: dict[str, Exception] = {}
        started = time.monotonic()
        while not self._broker_rests() and not should_stop():
            if not self._round(report, failures, crumbs=not woken) or time.monotonic() - started >= budget_s:
                break
            woken = True
        if report.claimed or report.redispatched:
            self._telemetry.emit(RelayPassed(report.claimed, report.redispatched, report.tasks, _since(started)))
        else:
            self._telemetry.emit(RelayIdled())
        if failures:
            raise _together(list(failures.values()))
        return report

    def pull(self, channel: Channel) -> Batch | None:
        """Claim what one delivery task can carry, for a task that is under way already: the way without a second hop.

        By the same rules as a pass. Rows that must travel alone, and do not fit, are published.
        """
        started = time.monotonic()
        for claimed, ready in self._claims_of(channel, channel.batch_size):
            if not ready:
                continue
            own, *others = ready
            try:
                if others:
                    self._dispatch(others, RelayReport())
            except Exception:
                self._release([own])
                raise
            self._telemetry.emit(Pulled(channel.name, len(claimed.claims), len(ready), _since(started)))
            return own
        return None

    def refill(self, channel: Channel) -> None:
        """Claim what has room in one channel's allowance, and hand it out, in the place of what a task has brought to an end.

        As a pass that was woken does, but while others of the channel are still being sent: the pass would wait for a slot of
        the pool until none is.
        """
        started = time.monotonic()
        for claimed, ready in self._claims_of(channel, self._claim_limit, crumbs=False):
            if ready and self._dispatch(ready, RelayReport()):
                self._telemetry.emit(Pulled(channel.name, len(claimed.claims), len(ready), _since(started)))

    def _round(self, report: RelayReport, failures: dict[str, Exception], *, crumbs: bool) -> bool:
        """One look at everything that is pending; whether another look may find more."""
        names = [channel.name for channel in self._channels]
        pending = self._store.pending(names)
        if not pending:
            return False
        stamped = self._store.stamp(names, self._defaults_of, _STAMP_LIMIT) if pending.unstamped else 0
        report.stamped += stamped
        moved = stamped
        lanes = {name: list(due) for name, due in groupby(sorted(pending.lanes, key=_urgency), key=lambda lane: lane.channel)}
        for channel in self._channels:
            here = pending.gates_of(channel.name)
            if _is_closed(here) or channel.name in failures:
                continue
            try:
                if pending.overdue:
                    moved += self._redispatch(channel, report)
                moved += self._claim(channel, lanes.get(channel.name, ()), here, report, crumbs=crumbs)
            except OutboxError:  # the database as a whole: the others would fare no better
                raise
            except Exception as error:
                failures[channel.name] = error
        return moved > 0

    def _redispatch(self, channel: Channel, report: RelayReport) -> int:
        """Publish again what waited past its horizon: outside the allowance, so that lost messages cannot lock it."""
        if self._broker_rests():
            return 0
        claims = self._store.redispatch(channel.name, self._claim_limit, self._owner())
        if not claims or not self._dispatch(batches(channel, claims), report):
            return 0
        report.redispatched += len(claims)
        return len(claims)

    def _claim(
        self, channel: Channel, lanes: Sequence[Lane], gates: Sequence[Gate], report: RelayReport, *, crumbs: bool
    ) -> int:
        moved = 0
        for claimed, ready in self._claims(channel, lanes, gates, self._claim_limit, crumbs=crumbs):
            if ready and self._dispatch(ready, report):
                report.claimed += len(claimed.claims)
            moved += claimed.moved
        return moved

    def _claims_of(self, channel: Channel, limit: int, *, crumbs: bool = True) -> Iterator[tuple[Claimed, list[Batch]]]:
        """Look for what is due of this channel alone, and claim it lane after lane, the most urgent first."""
        names = [channel.name]
        pending = self._store.pending(names)
        if pending.unstamped and self._store.stamp(names, self._defaults_of, _STAMP_LIMIT):
            pending = self._store.pending(names)
        gates = pending.gates_of(channel.name)
        if not _is_closed(gates):
            yield from self._claims(channel, sorted(pending.lanes, key=_urgency), gates, limit, crumbs=crumbs)

    def _claims(
        self, channel: Channel, lanes: Sequence[Lane], gates: Sequence[Gate], limit: int, *, crumbs: bool = True
    ) -> Iterator[tuple[Claimed, list[Batch]]]:
        """Claim lane after lane, unless the broker refused what came of the one before."""
        share = shares(channel.max_in_flight, [lane.priority for lane in lanes])
        held = self._store.in_flight(channel.name) if len(lanes) > 1 else {}
        limits = _limits(channel, gates)
        for lane in lanes:
            if self._broker_rests():
                break
            room = min(share[lane.priority] - held.get(lane.priority, 0), channel.max_in_flight - lane.in_flight)
            if room < (1 if crumbs else worth_a_claim(share[lane.priority])):
                continue  # without asking for the database's write lock: whoever frees the allowance says so
            asked = min(limit, room)
            claimed = self._store.claim(lane, asked, limits, self._owner())
            capped = claimed.capped or claimed.moved >= asked
            yield claimed, batches(channel, claimed.claims, capped=capped, watched=any(gate.failures for gate in gates))

    def _dispatch(self, ready: Sequence[Batch], report: RelayReport) -> bool:
        try:
            self._dispatcher.dispatch(ready)
        except BrokerUnavailable as error:
            self._rest()
            self._telemetry.emit(BrokerFailed(self._release(ready), str(error)))
            return False
        except Exception:
            self._release(ready)
            raise
        self._broker_failures = 0
        report.tasks += len(ready)
        return True

    def _release(self, batches: Sequence[Batch]) -> int:
        """The lease is unchanged, so a copy that got through after all is as good as the next one."""
        return self._store.release([claim for batch in batches for claim in batch.claims])

    def _broker_rests(self) -> bool:
        return time.monotonic() < self._broker_rests_until

    def _rest(self) -> None:
        pause_s = min(_FIRST_BROKER_PAUSE_S * 2**self._broker_failures, _LONGEST_BROKER_PAUSE_S)
        self._broker_failures += 1
        self._broker_rests_until = time.monotonic() + pause_s

    def _defaults_of(self, message: Message) -> Stamp:
        channel = self._channels.get(message.channel)
        return Stamp(message.id, channel.max_attempts, channel.ttl_ms, _ordering_key(channel, message))


def worth_a_claim(allowance: int) -> int:
    """How many messages must have left a channel's allowance for it to be worth while to claim others."""
    return max(1, allowance // _WORTH_A_CLAIM)


def _since(started: float) -> int:
    """Milliseconds since a moment of the monotonic clock."""
    return round((time.monotonic() - started) * 1000)


def _together(failures: Sequence[Exception]) -> Exception:
    return failures[0] if len(failures) == 1 else ExceptionGroup("channels could not be relayed", failures)


def _ordering_key(channel: Channel, message: Message) -> str | None:
    """One row of which the adapter can make no key must not keep all others from being stamped: it goes without."""
    try:
        key = channel.ordering_key_for(message)
        check_text("ordering_key", key)
    except Exception:
        _log.exception("message %s gets no ordering key", message.id)
        return None
    return key


def _is_closed(gates: Sequence[Gate]) -> bool:
    """Whether the whole channel is, of whose gates these are."""
    return any(gate.state is GateState.CLOSED and not gate.target for gate in gates)


def _limits(channel: Channel, gates: Sequence[Gate]) -> Limits:
    """The channel's limits, with the targets that are closed or half open now."""
    closed = frozenset(gate.target for gate in gates if gate.state is GateState.CLOSED)
    probed = frozenset(gate.target for gate in gates if gate.state is GateState.HALF_OPEN)
    return replace(channel.limits(), closed=closed, probed=probed - closed)


def _urgency(lane: Lane) -> tuple[str, int]:
    return lane.channel, -lane.priority
