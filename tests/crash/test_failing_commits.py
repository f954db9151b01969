"""The database fails while a process lives: after a commit that took effect all the same, or for want of space before one."""

import sqlite3
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError

from outbox import Attempt, Backoff, Message, NewMessage, Outbox, RetryLater, checkpoints
from outbox.errors import OutboxError
from outbox.lifecycle import Status
from outbox.testing import FakeClock
from tests.contract.steps import MINUTE, claim, take

LOST_ANSWER = OperationalError("commit", None, Exception("server closed the connection"), connection_invalidated=True)
FULL_DISK = OperationalError("update", None, sqlite3.OperationalError("database or disk is full"))
DAY = 24 * 60 * MINUTE
VERBS = ["stamp", "claim", "take", "settle", "settle_and_take", "release", "redispatch", "rescue", "expire", "prune", "mend"]


class Chat:
    """Counts what it accepts; refuses the messages that say so at their first attempt."""

    def __init__(self) -> None:
        self.accepted: Counter[str] = Counter()

    def __call__(self, message: Message, attempt: Attempt) -> None:
        if message.payload == "refused" and attempt.number == 1:
            raise RetryLater("not now")
        self.accepted[message.id] += 1


class Failure:
    """Fails the first time that the process comes to a checkpoint."""

    def __init__(self, checkpoint: str, error: Exception) -> None:
        self._checkpoint = checkpoint
        self._error = error
        self.has_happened = False

    def __call__(self, checkpoint: str) -> None:
        if checkpoint == self._checkpoint and not self.has_happened:
            self.has_happened = True
            raise self._error


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def outbox(database_url: str, clock: FakeClock) -> Iterator[Outbox]:
    outbox = Outbox(database_url, clock=clock)
    outbox.upgrade_schema()
    yield outbox
    checkpoints.listen(None)
    outbox.close()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("moment", "error"),
    [pytest.param("committed", LOST_ANSWER, id="lost answer"), pytest.param("before_commit", FULL_DISK, id="full disk")],
)
@pytest.mark.proves("T1", "T2")
def test_a_commit_that_fails_costs_time_and_never_a_message_or_a_second_send(
    outbox: Outbox, clock: FakeClock, verb: str, moment: str, error: Exception
) -> None:
    unstamped = enqueue(outbox, NewMessage(channel="chat", target="ada"), NewMessage(channel="chat", target="ada"))
    chat = Chat()
    outbox.channel("chat", backoff=Backoff((1,)), concurrency=2)(chat)
    outbox.channel("closed")(chat)
    outbox.pause("closed")
    dead = enqueue(outbox, NewMessage(channel="chat", target="ada"))
    take(outbox.store, claim(outbox.store, channel="chat"), channel="chat")
    lost = enqueue(outbox, NewMessage(channel="chat", target="ada"))
    claim(outbox.store, channel="chat")
    in_turn = enqueue(
        outbox, *(NewMessage(channel="chat", target="ada", ordering_key="a", payload=text) for text in ("refused", "1", "2"))
    )
    late = enqueue(outbox, NewMessage(channel="closed", target="ada", expires_in=30))
    failure = Failure(f"{verb}.{moment}", error)
    checkpoints.listen(failure)

    live(outbox, clock, MINUTE, 8)
    statuses = {message.id: message.status for message in outbox.list()}
    live(outbox, clock, 3 * DAY, 2)

    assert failure.has_happened
    assert chat.accepted == dict.fromkeys([*unstamped, *dead, *lost, *in_turn], 1)
    assert statuses == {**dict.fromkeys(chat.accepted, Status.DELIVERED), **dict.fromkeys(late, Status.EXPIRED)}
    assert outbox.store.violations(10) == []


def live(outbox: Outbox, clock: FakeClock, step_ms: int, steps: int) -> None:
    """Tick by tick, as the loops do that survive a failing pass."""
    for _ in range(steps):
        for tick in (outbox.relay_once, outbox.maintain_once):
            try:
                tick()
            except OutboxError:
                continue
        clock.advance(step_ms)


def enqueue(outbox: Outbox, *messages: NewMessage) -> list[str]:
    with outbox.store.engine.begin() as connection:
        return [queued.id for queued in outbox.enqueue_many(connection, messages)]
