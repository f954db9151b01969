"""A thousand replies over twenty chats: some fail in passing, and one chat is down.

The clock stands still while replies go out, so that "undelayed" is exact: a reply goes out at the moment to which the failures
of its own chat have moved it, and no failure of another chat moves it at all.
"""

import random
from collections import defaultdict

import pytest

from outbox import Attempt, Backoff, Channel, Message, NewMessage, Outbox, RetryLater
from outbox.lifecycle import Status
from outbox.testing import FakeClock
from tests.contract.steps import MINUTE, NOW, SECOND
from tests.integration.conftest import OpenOutbox

CHATS = [f"chat {number}" for number in range(20)]
REPLIES = range(50)
DOWN = "chat 7"
UP = [chat for chat in CHATS if chat != DOWN]
EVERY_REPLY = [(chat, reply) for reply in REPLIES for chat in CHATS]
STUMBLING = frozenset(random.Random(29953).sample(EVERY_REPLY, len(EVERY_REPLY) // 10))
"""One reply in ten: its first attempt fails in passing."""
PAUSE = 5 * SECOND
TTL_S = 30 * 60

pytestmark = pytest.mark.long_on("postgresql")


class Platform(Channel):
    """Twenty chats on the other side; what it said in each is what people there have read."""

    name = "chat"
    ordered = True
    concurrency = 16
    backoff = Backoff((PAUSE / SECOND,), jitter=0)
    ttl = TTL_S

    def __init__(self) -> None:
        super().__init__()
        self.down = {DOWN}
        self.said: defaultdict[str, list[int]] = defaultdict(list)
        self.tried: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)

    def send_final(self, message: Message, attempt: Attempt) -> None:
        chat, reply = message.target, message.payload["reply"]
        self.tried[chat].append((reply, attempt.number))
        if chat in self.down or ((chat, reply) in STUMBLING and attempt.number == 1):
            raise RetryLater("the chat does not answer")
        self.said[chat].append(reply)


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def outbox(open_outbox: OpenOutbox, clock: FakeClock, platform: Platform) -> Outbox:
    """With a thousand replies in it: every chat gets its first, then every chat its second."""
    outbox = open_outbox(clock=clock, channels=[platform])
    with outbox.store.transaction() as tx:
        replies = [NewMessage(channel="chat", target=chat, payload={"reply": reply}) for chat, reply in EVERY_REPLY]
        outbox.enqueue_many(tx.connection, replies)
    return outbox


def rows(outbox: Outbox) -> dict[tuple[str, int], Message]:
    return {(row.target, row.payload["reply"]): row for row in outbox.list(limit=2 * len(EVERY_REPLY))}


def run_for(outbox: Outbox, clock: FakeClock, duration: int, step: int = PAUSE) -> None:
    """Let the duration (milliseconds) pass; at its end everything that had become due by then has been tried."""
    for _ in range(duration // step):
        outbox.drain()
        outbox.maintain_once()
        clock.advance(step)
    outbox.drain()


def stumbles(chat: str, up_to: int) -> int:
    """Attempts of a chat that fail in passing until a reply of it is through."""
    return sum((chat, reply) in STUMBLING for reply in range(up_to + 1))


LONGEST_WAIT = PAUSE * max(stumbles(chat, REPLIES[-1]) for chat in UP)


@pytest.mark.proves("T40", "R17")
def test_every_chat_hears_its_replies_once_and_in_order_and_waits_for_no_failure_but_its_own(
    outbox: Outbox, platform: Platform, clock: FakeClock
) -> None:
    run_for(outbox, clock, LONGEST_WAIT)

    assert {chat: platform.said[chat] for chat in UP} == {chat: [*REPLIES] for chat in UP}
    heard = {at: row.delivered_at for at, row in rows(outbox).items() if row.target != DOWN}
    assert heard == {(chat, reply): NOW + PAUSE * stumbles(chat, reply) for chat in UP for reply in REPLIES}


def test_a_chat_that_is_down_costs_only_the_attempts_of_its_first_reply(
    outbox: Outbox, platform: Platform, clock: FakeClock
) -> None:
    run_for(outbox, clock, LONGEST_WAIT)

    waiting = {reply: row for (chat, reply), row in rows(outbox).items() if chat == DOWN}
    assert platform.said[DOWN] == []
    assert {reply for reply, row in waiting.items() if row.attempt_count} == {0}
    assert platform.tried[DOWN] == [(0, number) for number in range(1, waiting[0].attempt_count + 1)]
    assert {row.status for reply, row in waiting.items() if reply} == {Status.QUEUED}


def test_a_chat_that_is_back_hears_what_waited_in_order(outbox: Outbox, platform: Platform, clock: FakeClock) -> None:
    run_for(outbox, clock, 3 * PAUSE)
    platform.down.clear()

    run_for(outbox, clock, max(LONGEST_WAIT, PAUSE * (3 + stumbles(DOWN, REPLIES[-1]))))

    assert platform.said == {chat: [*REPLIES] for chat in CHATS}
    assert {row.status for row in rows(outbox).values()} == {Status.DELIVERED}


@pytest.mark.proves("T19")
def test_a_chat_that_stays_down_is_never_flooded_and_every_reply_to_it_ends_with_a_reason(
    outbox: Outbox, platform: Platform, clock: FakeClock
) -> None:
    run_for(outbox, clock, LONGEST_WAIT)

    run_for(outbox, clock, TTL_S * SECOND, step=MINUTE)
    platform.down.clear()
    run_for(outbox, clock, MINUTE)

    ended = [row for row in rows(outbox).values() if row.target == DOWN]
    assert platform.said[DOWN] == []
    assert platform.tried[DOWN] == sorted(platform.tried[DOWN])
    assert {row.status for row in ended} == {Status.FAILED_TERMINAL, Status.EXPIRED}
    assert all(row.terminal_reason for row in ended)
    assert outbox.store.violations(10) == []
