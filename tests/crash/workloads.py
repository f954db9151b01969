"""What the application commits in a run, and what has to become of each message."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.crash.evidence import Fate


@dataclass(frozen=True)
class Order:
    """One message: how the receiver meets it (see :mod:`tests.crash.receiver`), and its fate."""

    channel: str
    fate: Fate = Fate.DELIVERED
    script: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)

    def named(self, name: str, *, keyed: bool) -> dict[str, Any]:
        """What the application enqueues; ``keyed``: under an idempotency key of its own."""
        fields = dict(self.fields)
        if "ordering_key" in fields:
            fields["ordering_key"] = f"{name.rpartition('-')[0]} {fields['ordering_key']}"
        key = name if keyed else None
        return {"channel": self.channel, "payload": {"name": name, **self.script}, "idempotency_key": key, **fields}


Workload = Callable[[], Iterator[Order]]


def letters() -> Iterator[Order]:
    """Messages that all arrive: in tasks of several and of one, asynchronous ones, and two conversations."""
    for channel, count in (("plain", 4), ("webhook", 3), ("single", 3)):
        yield from (Order(channel) for _ in range(count))
    for _ in range(3):
        yield from (Order("ordered", fields={"ordering_key": key}) for key in ("a", "b"))


def singles() -> Iterator[Order]:
    """Each in a broker message of its own."""
    yield from (Order("single") for _ in range(5))


def capped() -> Iterator[Order]:
    """More than their channel may have in flight: each that ends makes room for another."""
    yield from (Order("capped") for _ in range(8))


def crowd() -> Iterator[Order]:
    """Many under way at once."""
    yield from (Order("crowd") for _ in range(32))


def refusals() -> Iterator[Order]:
    """Refused once, refused for good, refused until the attempts are used up; and a conversation whose head is refused."""
    yield from (Order("plain", script={"refused": 1}) for _ in range(2))
    yield from (Order("plain", Fate.DEAD, {"rejected": 9}) for _ in range(2))
    yield Order("plain", Fate.DEAD, {"refused": 9}, {"max_attempts": 2})
    yield Order("ordered", script={"refused": 2}, fields={"ordering_key": "a"})
    yield from (Order("ordered", fields={"ordering_key": "a"}) for _ in range(3))


def parking() -> Iterator[Order]:
    """A channel for which a second copy is worse than a delay."""
    yield from (Order("parking", Fate.DELIVERED_OR_PARKED) for _ in range(3))


def asking() -> Iterator[Order]:
    """A channel whose other side can be asked what it has."""
    yield from (Order("asking") for _ in range(3))


def late() -> Iterator[Order]:
    """Too old before their channel opens."""
    yield from (Order("closed", Fate.EXPIRED, fields={"expires_in": 1.5}) for _ in range(3))


def withdrawn() -> Iterator[Order]:
    """Waiting for a channel that is closed."""
    yield from (Order("closed", Fate.CANCELLED) for _ in range(3))


def rejected_once() -> Iterator[Order]:
    """Dead letters at first; delivered when they are replayed."""
    yield from (Order("plain", script={"rejected": 1}) for _ in range(3))


def resolved() -> Iterator[Order]:
    """Parked or delivered; delivered when somebody has looked."""
    yield from (Order("parking") for _ in range(2))


def fleeting() -> Iterator[Order]:
    """Kept for a moment."""
    yield from (Order("fleeting", Fate.GONE) for _ in range(4))


def blanking() -> Iterator[Order]:
    """Their payload goes soon."""
    yield from (Order("blanking") for _ in range(4))


def broken() -> Iterator[Order]:
    """To a destination that fails until its breaker opens."""
    yield from (Order("broken", script={"refused": 1}, fields={"target": "somewhere"}) for _ in range(3))


def unready() -> Iterator[Order]:
    """To a channel that is not ready at first."""
    yield from (Order("unready", script={"unready": 1}) for _ in range(2))


def slow() -> Iterator[Order]:
    """Longer under way than one lease."""
    yield from (Order("slow", script={"delay": 3.0}) for _ in range(2))


def sluggish() -> Iterator[Order]:
    """So many slow ones in tasks of their own that all slots are held while others wait."""
    yield from (Order("sluggish", script={"delay": 0.7}) for _ in range(6))
    yield from letters()


def entries() -> Iterator[Order]:
    """To the channel whose whole effect is in the application's own database."""
    yield from (Order("entry") for _ in range(4))


def poison() -> Iterator[Order]:
    """Whoever sends it dies, every time."""
    yield Order("plain", Fate.DEAD, fields={"max_attempts": 2})
