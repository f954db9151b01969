"""The statuses of a message and the only table that says which change follows which.

Everything that moves a row derives its ``where status in (...)`` from :data:`TRANSITIONS`, and so do the documented diagram
and the tests.
"""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Where a message stands. A committed message is in exactly one of these at every moment."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    SENDING = "sending"
    FAILED_RETRYABLE = "failed_retryable"
    PARKED = "parked"
    DELIVERED = "delivered"
    FAILED_TERMINAL = "failed_terminal"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What can happen to a message."""

    CLAIM = "claim"
    REDISPATCH = "redispatch"
    TAKE = "take"
    DELIVER = "deliver"
    DELIVER_LATE = "deliver late"
    RETRY = "retry"
    FAIL = "fail"
    PARK = "park"
    SUPPRESS = "suppress"
    RELEASE_UNTRIED = "release untried"
    RELEASE_TRIED = "release tried"
    POSTPONE = "postpone"
    EXPIRE = "expire"
    CANCEL = "cancel"
    REPLAY = "replay"
    RESOLVE_SENT = "resolve sent"


@dataclass(frozen=True, slots=True)
class Transition:
    """One permitted change: from any of ``sources`` to ``target``; ``None`` keeps the status as it is."""

    sources: frozenset[Status]
    target: Status | None
    meaning: str


def _from(*sources: Status) -> frozenset[Status]:
    return frozenset(sources)


DUE = _from(Status.QUEUED, Status.FAILED_RETRYABLE)
"""Statuses in which the relay may claim a row once its time has come."""

ACTIVE = DUE | _from(Status.DISPATCHED, Status.SENDING, Status.PARKED)
"""Statuses that something will still look at, and that hold back later rows of the same ordering key."""

TERMINAL = frozenset(Status) - ACTIVE
"""Statuses that only an operator's explicit action, or the success of the attempt that holds the lease, may change."""

EXPIRABLE = DUE | _from(Status.DISPATCHED)
CANCELLABLE = EXPIRABLE | _from(Status.PARKED)
REPLAYABLE = TERMINAL | _from(Status.PARKED)
UNPROVEN = frozenset(Status) - _from(Status.DELIVERED)

TRANSITIONS: dict[Event, Transition] = {
    Event.CLAIM: Transition(DUE, Status.DISPATCHED, "the relay gives the row to the broker for the dispatch horizon"),
    Event.REDISPATCH: Transition(_from(Status.DISPATCHED), None, "the horizon passed: published again, same lease"),
    Event.TAKE: Transition(
        _from(Status.DISPATCHED, Status.QUEUED), Status.SENDING, "a delivery task begins: lease + 1, attempt charged"
    ),
    Event.DELIVER: Transition(_from(Status.SENDING), Status.DELIVERED, "the send succeeded"),
    Event.DELIVER_LATE: Transition(
        UNPROVEN - _from(Status.SENDING), Status.DELIVERED, "the send succeeded after all; nobody took the row since"
    ),
    Event.RETRY: Transition(_from(Status.SENDING), Status.FAILED_RETRYABLE, "the attempt failed and another is due later"),
    Event.FAIL: Transition(_from(Status.SENDING), Status.FAILED_TERMINAL, "permanent, or the attempts are used up"),
    Event.PARK: Transition(_from(Status.SENDING), Status.PARKED, "held for an operator or for reconciliation"),
    Event.SUPPRESS: Transition(_from(Status.SENDING), Status.CANCELLED, "the adapter decided not to send"),
    Event.RELEASE_UNTRIED: Transition(
        _from(Status.SENDING, Status.DISPATCHED), Status.QUEUED, "given back unstarted; no attempt is on record"
    ),
    Event.RELEASE_TRIED: Transition(
        _from(Status.SENDING, Status.DISPATCHED),
        Status.FAILED_RETRYABLE,
        "given back unstarted; earlier attempts failed",
    ),
    Event.POSTPONE: Transition(DUE, None, "the channel or destination is closed: due later, lease + 1"),
    Event.EXPIRE: Transition(EXPIRABLE, Status.EXPIRED, "older than its TTL and not being sent"),
    Event.CANCEL: Transition(CANCELLABLE, Status.CANCELLED, "an operator withdrew it"),
    Event.REPLAY: Transition(REPLAYABLE, Status.QUEUED, "an operator starts it afresh: lease + 1, attempts from 0"),
    Event.RESOLVE_SENT: Transition(_from(Status.PARKED), Status.DELIVERED, "an operator knows that it was sent"),
}


def sources(event: Event) -> frozenset[Status]:
    """Statuses from which ``event`` may happen."""
    return TRANSITIONS[event].sources


def target(event: Event) -> Status:
    """The status that ``event`` leads to. Raises :class:`ValueError` for an event that keeps the status."""
    status = TRANSITIONS[event].target
    if status is None:
        raise ValueError(f"{event} keeps the status of the row")
    return status
