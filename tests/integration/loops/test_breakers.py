"""A breaker that opens while a task is under way."""

import time

from outbox import Outbox, RetryLater
from outbox.policy.destination import Breaker
from outbox.store.records import GateState
from outbox.testing import FakeClock
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import (
    Chat,
    claim,
    deliver,
    enqueue_many,
    one_after_another,
    raising,
    returning,
    rows,
    statuses,
)


def test_a_task_sends_nothing_more_once_a_breaker_has_opened_and_gives_back_what_it_has_not_begun(outbox: Outbox) -> None:
    chat = Chat(behaviour=raising(RetryLater("down")), concurrency=5, target_breaker=Breaker(failures=5))
    outbox.register(chat)
    ids = enqueue_many(outbox, 100, target="them")
    report = deliver(outbox)
    assert [(gate.target, gate.state) for gate in outbox.store.gates()] == [("them", GateState.CLOSED)]
    assert len(chat.sent) < 20  # five, and the few that had begun by then
    assert report.released == 100 - len(chat.sent)
    assert statuses(outbox, ids).count("queued") == report.released


def test_a_breaker_that_opens_keeps_no_message_from_another_target(outbox: Outbox) -> None:
    chat = Chat(behaviour={"them": raising(RetryLater("down"))}, concurrency=5, target_breaker=Breaker(failures=5))
    outbox.register(chat)
    enqueue_many(outbox, 50, target="them")
    healthy = enqueue_many(outbox, 50, target="us")
    outbox.drain()
    assert statuses(outbox, healthy) == ["delivered"] * 50
    assert chat.sent.count("them") < 20


def test_a_task_goes_on_with_those_of_other_targets(outbox: Outbox) -> None:
    """What it gave back beside them would be claimed, published and taken once more."""
    chat = Chat(behaviour={"them": raising(RetryLater("down"))}, concurrency=10, target_breaker=Breaker(failures=3))
    outbox.register(chat)
    them, us = [], []
    for _ in range(20):
        them += enqueue_many(outbox, 1, target="them")
        us += enqueue_many(outbox, 3, target="us")

    report = deliver(outbox)

    assert statuses(outbox, us) == ["delivered"] * 60
    assert chat.sent.count("them") < 10
    assert report.released == 20 - chat.sent.count("them")
    assert statuses(outbox, them).count("queued") == report.released


def test_what_waits_behind_one_that_is_given_back_is_given_back_too(outbox: Outbox) -> None:
    chat = Chat(
        behaviour={"them": raising(RetryLater("down"))}, concurrency=4, target_breaker=Breaker(failures=2), key_window=2
    )
    outbox.register(chat)
    enqueue_many(outbox, 2, target="them")
    us = enqueue_many(outbox, 12, target="us")
    talk = enqueue_many(outbox, 1, target="them", ordering_key="talk") + enqueue_many(
        outbox, 1, target="us", ordering_key="talk"
    )

    report = deliver(outbox)

    assert statuses(outbox, us) == ["delivered"] * 12
    assert statuses(outbox, talk) == ["queued"] * 2
    assert report.released == 2


def test_what_was_claimed_before_another_task_saw_a_breaker_open_is_given_back_unsent(outbox: Outbox) -> None:
    chat = Chat(behaviour={"them": raising(RetryLater("down"))}, concurrency=5, target_breaker=Breaker(failures=5))
    outbox.register(chat)
    enqueue_many(outbox, 10, target="them")
    first = claim(outbox)
    them, us = [], []
    for _ in range(10):
        them += enqueue_many(outbox, 1, target="them")
        us += enqueue_many(outbox, 1, target="us")
    second = claim(outbox)
    deliver(outbox, first)
    chat.sent.clear()

    report = deliver(outbox, second)

    assert chat.sent == ["us"] * 10
    assert statuses(outbox, us) == ["delivered"] * 10
    assert report.released == 10
    assert [(row.status, row.attempt_count) for row in rows(outbox, them)] == [("queued", 0)] * 10


def test_what_was_claimed_before_another_task_saw_the_channels_breaker_open_is_given_back_untaken(outbox: Outbox) -> None:
    chat = Chat(behaviour=raising(RetryLater("down")), target_breaker=None, channel_breaker=Breaker(failures=2))
    outbox.register(chat)
    enqueue_many(outbox, 2)
    first = claim(outbox)
    ids = enqueue_many(outbox, 5)
    second = claim(outbox)
    deliver(outbox, first)
    chat.sent.clear()

    report = deliver(outbox, second)

    assert (chat.sent, report.released) == ([], 5)
    assert [(row.status, row.lease) for row in rows(outbox, ids)] == [("queued", 0)] * 5


def test_what_may_probe_a_breaker_that_opened_a_moment_ago_is_sent(outbox: Outbox) -> None:
    """Breakers may be open for a shorter time than a process remembers that they have opened."""
    breaker = Breaker(failures=1, open_s=0.05, longest_open_s=0.05)
    chat = Chat(behaviour=raising(RetryLater("down")), target_breaker=breaker)
    outbox.register(chat)
    enqueue_many(outbox, 1, target="them")
    deliver(outbox)
    enqueue_many(outbox, 1, target="them")
    time.sleep(0.06)

    deliver(outbox)

    assert chat.sent == ["them"] * 2


def test_what_an_operator_resumed_is_sent_at_once(outbox: Outbox) -> None:
    chat = Chat(behaviour=one_after_another(raising(RetryLater("down")), returning(None)), target_breaker=Breaker(failures=1))
    outbox.register(chat)
    enqueue_many(outbox, 1, target="them")
    deliver(outbox)
    ids = enqueue_many(outbox, 1, target="them")

    outbox.resume("chat", target="them")
    deliver(outbox)

    assert chat.sent == ["them"] * 3  # the first one's retry is due, too
    assert [row.attempt_count for row in rows(outbox, ids)] == [1]


def test_a_clock_that_is_advanced_lets_the_next_one_probe(open_outbox: OpenOutbox, clock: FakeClock) -> None:
    outbox = open_outbox(clock=clock)
    chat = Chat(behaviour=raising(RetryLater("down")), target_breaker=Breaker(failures=1))
    outbox.register(chat)
    enqueue_many(outbox, 1, target="them")
    deliver(outbox)
    enqueue_many(outbox, 1, target="them")
    clock.advance(31_000)

    deliver(outbox)

    assert chat.sent == ["them"] * 2
