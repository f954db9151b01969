"""What the oracle goes by: the application's table, the receiver's ledger, and the rows and records of the outbox."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from outbox import Message
from outbox.message import AttemptRecord
from tests.crash.arming import Deed
from tests.crash.receiver import Arrival, Verdict


class Fate(StrEnum):
    """What has to become of a message."""

    DELIVERED = "delivered"
    DEAD = "failed_terminal"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    GONE = "gone"
    """Delivered, and pruned since."""
    DELIVERED_OR_PARKED = "delivered or parked"
    """Parked where a death left the outcome unknown."""


@dataclass(frozen=True)
class Evidence:
    """All there is about the messages of one run. Keys of the mappings are message ids, where nothing else is said."""

    wanted: Mapping[str, Fate]
    """What the application's own table says it committed, and what should have become of it."""
    rolled_back: Collection[str]
    """Idempotency keys of messages whose transaction came to nothing."""
    keys: Mapping[str, str]
    """The idempotency key of each committed message."""
    rows: Mapping[str, Message]
    attempts: Mapping[str, Sequence[AttemptRecord]]
    arrivals: Sequence[Arrival]
    effects: Sequence[str]
    """Ids of the messages of the transactional channel whose effect is in the application's database, one for each effect."""
    deeds: Sequence[Deed]
    violations: Sequence[str]
    at_once: Mapping[str, int] = field(default_factory=dict)
    """By channel, how many sends one process may have begun whose outcome is not on record; where nothing is said, one."""

    receiver_has_died: bool = False
    """A request that nobody was there to hear is on record as one that was refused."""

    def arrivals_by_id(self) -> dict[str, list[Arrival]]:
        """Every request by the message whose key it came under, whatever its answer was."""
        by_key: dict[str, list[Arrival]] = defaultdict(list)
        for arrival in self.arrivals:
            by_key[arrival.key].append(arrival)
        return {name: by_key[key] for name, key in self.keys.items() if key in by_key}

    def accepted(self) -> dict[str, int]:
        """How often each message was accepted: requests, and effects in the application's own database."""
        counts = Counter(self.effects)
        for name, arrivals in self.arrivals_by_id().items():
            counts[name] += sum(arrival.verdict is Verdict.ACCEPTED for arrival in arrivals)
        return {name: counts[name] for name in self.keys if counts[name]}
