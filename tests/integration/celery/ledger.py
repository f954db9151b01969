"""What arrived on the other side, written down independently of the outbox, its database and its broker."""

import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from outbox import Attempt, Message


@dataclass(frozen=True)
class Arrival:
    """One call of a channel's send, or its return."""

    id: str
    key: str
    attempt: int
    lease: int
    is_recovery: bool
    channel: str
    pid: int
    at: float
    event: str = "began"


class Ledger:
    """A file to which every process appends lines, each in one write, so that not even SIGKILL tears one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, message: Message, attempt: Attempt, event: str = "began") -> None:
        arrival = Arrival(
            message.id, attempt.idempotency_key, attempt.number, attempt.lease, attempt.is_recovery, message.channel,
            os.getpid(), time.time(), event,
        )  # fmt: skip
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(asdict(arrival)).encode() + b"\n")
        finally:
            os.close(descriptor)

    def arrivals(self, message_id: str | None = None, event: str = "began") -> list[Arrival]:
        """The sends that began (or returned), in the order in which they did."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines()
        everything = [Arrival(**json.loads(line)) for line in lines]
        return [a for a in everything if a.event == event and message_id in (None, a.id)]

    def counts(self) -> Counter[str]:
        """How often each message was sent, by id."""
        return Counter(arrival.id for arrival in self.arrivals())
