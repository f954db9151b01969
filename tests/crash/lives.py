"""A short life of an outbox, in one process and by a clock of its own, in which every verb of relay, delivery and maintenance
has something to do; and what must have become of it, whatever failed meanwhile.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy.exc import DBAPIError

from outbox import Attempt, Backoff, Message, NewMessage, Outbox, RetryLater
from outbox.errors import OutboxError
from outbox.lifecycle import Status
from outbox.recording import Recorder
from outbox.testing import FakeClock
from outbox.testing.clock import START_MS
from tests.contract.steps import MINUTE, claim, take
from tests.servers.proxy import Proxy

DAY = 24 * 60 * MINUTE


class Stage:
    """One outbox for one life after the other: it compiles its statements once. ``line`` leads to its PostgreSQL."""

    def __init__(self, url: str, line: Proxy | None = None) -> None:
        self.line = line
        self.clock = FakeClock()
        self.outbox = Outbox(url, clock=self.clock)
        self.stranger = Outbox(url, clock=self.clock)
        """An application that only enqueues, and knows no channel."""
        self.accepted: Counter[str] = Counter()
        self.outbox.channel("chat", backoff=Backoff((1,)), concurrency=2)(self._send)
        self.outbox.channel("closed")(self._send)

    def empty(self) -> None:
        """As if nothing had been."""
        with self.outbox.store.transaction() as tx:
            for table in self.outbox.store.tables.metadata.sorted_tables:
                tx.connection.execute(table.delete())
        self.clock.now = START_MS
        self.accepted = Counter()
        self.outbox.delivery.recorder = Recorder(self.outbox.store, self.outbox.telemetry, pause=lambda _seconds: None)

    def close(self) -> None:
        self.stranger.close()
        self.outbox.close()

    def _send(self, message: Message, attempt: Attempt) -> None:
        """Count what is accepted; refuse, at their first attempt, the messages that say so."""
        if message.payload == "refused" and attempt.number == 1:
            raise RetryLater("not now")
        self.accepted[message.id] += 1


class Life:
    """Begins with messages in many a state: some that nobody has stamped, one whose sender is dead, one that the broker lost,
    a conversation whose first is refused once, and one that comes too late for a channel that is closed.
    """

    def __init__(self, stage: Stage) -> None:
        stage.empty()
        self._stage = stage
        self._outbox = outbox = stage.outbox
        outbox.pause("closed")
        dead = enqueue(outbox, _plain())
        take(outbox.store, claim(outbox.store, channel="chat"), channel="chat")
        lost = enqueue(outbox, _plain())
        claim(outbox.store, channel="chat")
        unstamped = enqueue(stage.stranger, _plain(), _plain())
        in_turn = enqueue(outbox, *(_plain(ordering_key="a", payload=text) for text in ("refused", "1", "2")))
        self._late = enqueue(outbox, _plain(channel="closed", expires_in=30))
        self._wanted = [*unstamped, *dead, *lost, *in_turn]

    def enqueue_stubbornly(self) -> None:
        """As an application does that was told of a failure, and cannot know how far it came: again, with the same key."""
        for _ in range(2):
            try:
                self._wanted += enqueue(self._outbox, _plain(idempotency_key="order 1"))
            except (OutboxError, DBAPIError):
                continue
            return
        raise AssertionError("it failed once, and that was a while ago")

    def suffer(self) -> None:
        """A while in which the database takes nothing: the application is told, and nothing is sent."""
        with pytest.raises((OutboxError, DBAPIError)):
            enqueue(self._outbox, _plain())
        self.go_on_in_vain()
        assert self._stage.accepted == {}

    def go_on_in_vain(self) -> None:
        """A few ticks in which no time passes, and of which any may fail."""
        for _ in range(3):
            self._tick()

    def pass_by(self) -> None:
        """Some minutes, until all are sent, and then the days until all are pruned."""
        self._live(MINUTE, 8)
        self._statuses = self._look()
        self._live(3 * DAY, 2)

    def judge(self) -> None:
        """Each message was sent once and recorded; what came too late was not sent; nothing is stuck."""
        assert self._stage.accepted == dict.fromkeys(self._wanted, 1)
        delivered = dict.fromkeys(self._wanted, Status.DELIVERED)
        assert self._statuses == {**delivered, **dict.fromkeys(self._late, Status.EXPIRED)}
        assert self._outbox.store.violations(10) == []

    def _look(self) -> dict[str, Status]:
        """The statuses; asked for again where the failure, which comes once, has come to this very statement."""
        try:
            return {message.id: message.status for message in self._outbox.list()}
        except OutboxError:
            return self._look()

    def _live(self, step_ms: int, steps: int) -> None:
        for _ in range(steps):
            self._tick()
            self._stage.clock.advance(step_ms)

    def _tick(self) -> None:
        """As the loops do, which survive a pass that fails."""
        ticks: Sequence[Callable[[], object]] = (self._outbox.relay_once, self._outbox.maintain_once)
        for tick in ticks:
            try:
                tick()
            except* OutboxError:
                pass


def enqueue(outbox: Outbox, *messages: NewMessage) -> list[str]:
    """In a transaction of the application's; the ids."""
    with outbox.store.engine.begin() as connection:
        return [queued.id for queued in outbox.enqueue_many(connection, messages)]


def _plain(**fields: object) -> NewMessage:
    return NewMessage(**{"channel": "chat", "target": "ada", **fields})  # type: ignore[arg-type]
