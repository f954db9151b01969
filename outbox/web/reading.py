"""What pages and API show, read through the store's bounded verbs: an overview, lists, and all that is known of a message."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from outbox.lifecycle import Status
from outbox.message import AttemptRecord, Message
from outbox.outbox import Outbox
from outbox.store.records import Count, Gate, GateOperation, GateState, MessageFilter, OperationRecord, Page, Place
from outbox.web.problems import Problem

MOST = 10_000
"""Counts stop here and say that there are more."""
PAGE_LIMIT = 50
LONGEST_PAGE = 500
LATELY = 20
_NONE = Count("", Status.QUEUED, 0)


@dataclass(frozen=True, slots=True)
class ChannelOverview:
    """A channel at a glance. ``max_in_flight`` is ``None`` where the channel is not registered in this process."""

    name: str
    counts: dict[Status, Count]
    oldest_due_age_ms: int | None
    max_in_flight: int | None
    closed: bool

    def count(self, status: Status) -> Count:
        """How many messages are in a status."""
        return self.counts.get(status, replace(_NONE, channel=self.name, status=status))

    @property
    def in_flight(self) -> int:
        """How many are dispatched or being sent."""
        return self.count(Status.DISPATCHED).rows + self.count(Status.SENDING).rows


@dataclass(frozen=True, slots=True)
class Overview:
    """The outbox at a glance. ``gates`` are those that hold something back, or let one message try."""

    now_ms: int
    channels: Sequence[ChannelOverview]
    gates: Sequence[Gate]
    operations: Sequence[GateOperation]
    """What operators paused and resumed lately, the latest first."""

    def total(self, *statuses: Status) -> Count:
        """How many messages are in any of these statuses, over all channels."""
        counts = [channel.count(status) for channel in self.channels for status in statuses]
        return replace(_NONE, rows=sum(count.rows for count in counts), at_least=any(count.at_least for count in counts))

    @property
    def knows_channels(self) -> bool:
        """Whether any channel is registered in this process."""
        return any(channel.max_in_flight is not None for channel in self.channels)

    @property
    def oldest_due_age_ms(self) -> int | None:
        """For how long the message that waits longest could have been sent already."""
        return max((age for channel in self.channels if (age := channel.oldest_due_age_ms) is not None), default=None)


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of a message."""

    now_ms: int
    message: Message
    attempts: Sequence[AttemptRecord]
    operations: Sequence[OperationRecord]


def overview(outbox: Outbox) -> Overview:
    """How things stand now."""
    counts = outbox.store.census(MOST)
    registered = {channel.name: channel for channel in outbox.channels}
    names = sorted(registered.keys() | {count.channel for count in counts})
    now_ms = outbox.store.now_ms()
    oldest: dict[str, int] = {}
    for lane in outbox.store.pending(names).lanes:
        oldest[lane.channel] = max(oldest.get(lane.channel, 0), now_ms - lane.oldest_due_at)
    gates = [gate for gate in outbox.store.gates(closed_only=False) if gate.state is not GateState.OPEN]
    shut = {gate.channel for gate in gates if gate.state is GateState.CLOSED and not gate.target}
    channels = [
        ChannelOverview(
            name,
            {count.status: count for count in counts if count.channel == name},
            oldest.get(name),
            registered[name].max_in_flight if name in registered else None,
            name in shut,
        )
        for name in names
    ]
    return Overview(now_ms, channels, gates, outbox.store.gate_operations(LATELY))


def channel_names(outbox: Outbox) -> list[str]:
    """Every channel that is registered or has messages."""
    return sorted({channel.name for channel in outbox.channels} | {count.channel for count in outbox.store.census(0)})


def page(outbox: Outbox, wanted: MessageFilter, name: str | None, after: Place | None, limit: int) -> Page:
    """A page of what matches or, with ``name``, the messages that it names."""
    if name is None:
        return outbox.store.page(wanted, after, limit)
    return Page(outbox.store.find_named(name, channel_names(outbox), limit))


def story(outbox: Outbox, message_id: str) -> Story:
    """One message. Raises :class:`~outbox.errors.MessageNotFound`."""
    message = outbox.get(message_id)
    return Story(outbox.store.now_ms(), message, outbox.attempts(message_id), outbox.store.operations(message_id))


def place_text(place: Place) -> str:
    """Where a list goes on, as it stands in a link."""
    return f"{place.seq}.{place.at}" if place.at else str(place.seq)


def parsed_place(text: str | None) -> Place | None:
    """The place that a link names. Raises :class:`~outbox.web.problems.Problem`."""
    if not text:
        return None
    parts = text.split(".")
    if len(parts) > 2 or not all(part.isascii() and part.isdecimal() and len(part) < 19 for part in parts):
        raise Problem(400, "invalid-parameter", "`after` is not a place that a page of this list named")
    return Place(*map(int, parts))


def parsed_status(text: str | None) -> Status | None:
    """The status of that name. Raises :class:`~outbox.web.problems.Problem`."""
    if not text:
        return None
    if text not in list(Status):
        raise Problem(400, "invalid-parameter", f"there is no status {text!r}; it is one of {', '.join(Status)}")
    return Status(text)
