"""The one seam through which the engine tells what happened: events go to listeners, and a listener can break nothing.

Events carry ids, counts and times; never a payload, a target or a secret. What has a beginning and an end beside it, an enqueue
and an attempt, a tracer may follow.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from outbox.policy.printable import escaped
from outbox.tracing import Tracing

_log = logging.getLogger("outbox")


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class Enqueued(Event):
    """Messages were written in a transaction of the application's, which may still be rolled back."""

    channel: str
    count: int


@dataclass(frozen=True, slots=True)
class AttemptFinished(Event):
    """One attempt ended. ``waited_ms`` is the time from due to taken; ``next_due_ms`` the pause until the next attempt."""

    message_id: str
    channel: str
    attempt: int
    lease: int
    outcome: str
    status: str
    duration_ms: int
    waited_ms: int
    next_due_ms: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class LeaseLost(Event):
    """An outcome was not recorded: somebody else holds the row by now."""

    message_id: str
    channel: str
    lease: int
    outcome: str


@dataclass(frozen=True, slots=True)
class TakeRefused(Event):
    """Claims that were not admitted: broker duplicates, stale or expired messages, or rows out of turn."""

    channel: str
    count: int


@dataclass(frozen=True, slots=True)
class SettleDelayed(Event):
    """Outcomes that the database would not record yet; they are kept and settled again."""

    channel: str
    count: int
    error: str


@dataclass(frozen=True, slots=True)
class RelayPassed(Event):
    """A relay pass that found something to do."""

    claimed: int
    redispatched: int
    tasks: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Pulled(Event):
    """A delivery task claimed what was due: to carry it, of an idle channel, or in place of what it had sent of a full one.

    What it could not carry was published. No sign that anybody relays.
    """

    channel: str
    claimed: int
    tasks: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class RelayIdled(Event):
    """A relay pass that found nothing to do: a sign of life, which nobody logs."""


@dataclass(frozen=True, slots=True)
class BrokerFailed(Event):
    """The relay could not publish; the rows were released."""

    released: int
    error: str


@dataclass(frozen=True, slots=True)
class Nudged(Event):
    """What was committed has woken up the relay, or a delivery task that claims by itself."""


@dataclass(frozen=True, slots=True)
class NudgeFailed(Event):
    """A wake-up was lost; the next tick makes up for it."""

    error: str


@dataclass(frozen=True, slots=True)
class Maintained(Event):
    """A maintenance service changed rows."""

    service: str
    rows: int


Listener = Callable[[Event], None]

_LEVELS: dict[type[Event], int] = {
    Enqueued: logging.DEBUG,
    RelayIdled: logging.NOTSET,
    Nudged: logging.DEBUG,
    LeaseLost: logging.WARNING,
    SettleDelayed: logging.ERROR,
    BrokerFailed: logging.WARNING,
    NudgeFailed: logging.WARNING,
    TakeRefused: logging.DEBUG,
}


def log_event(event: Event) -> None:
    """The default listener: one structured line, the event's fields as ``extra`` beside the text.

    An error's text comes from the other side: in the line it is escaped, so that it cannot forge another one.
    """
    level = _LEVELS.get(type(event), logging.INFO)
    if level is not logging.NOTSET and _log.isEnabledFor(level):
        fields = {name: value for name, value in asdict(event).items() if value is not None}
        text = " ".join(f"{name}={escaped(value)}" for name, value in fields.items())
        name = type(event).__name__
        _log.log(level, "%s %s", name, text, extra={"outbox": {"event": name, **fields}})


class Telemetry:
    """Hands each event to every listener, and what takes time to the tracer, if there is one."""

    def __init__(self, listeners: Sequence[Listener] = (log_event,)) -> None:
        self._listeners = list(listeners)
        self.tracing = Tracing()

    def subscribe(self, listener: Listener) -> None:
        """Add a listener; it is called in the thread in which the event happens, and must be quick."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Tell every listener. What one raises is logged: after a send nothing may turn it into a resend."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _log.exception("a telemetry listener failed on %s", type(event).__name__)
