"""Who may send a message now: its lease says so, and neither the time of a start nor what a process knew at its start."""

import pytest

from outbox import Backoff, NewMessage, Outbox, RetryLater
from outbox.relay import Relay
from outbox.testing import FakeClock
from tests.contract.steps import NOW, SECOND
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import (
    WAIT_S,
    Capture,
    Chat,
    Held,
    InThread,
    Row,
    claim,
    deliver,
    enqueue,
    enqueue_many,
    one_after_another,
    put,
    raising,
    returning,
    rows,
    statuses,
)

TIMEOUT_S = 60.0


@pytest.mark.proves("T9", "T10")
@pytest.mark.parametrize("ticking", ["the same process", "another process"])
def test_a_send_that_takes_longer_than_many_ticks_is_not_begun_again(
    open_outbox: OpenOutbox, clock: FakeClock, ticking: str
) -> None:
    sending, held = open_outbox(clock=clock), Held()
    chat = Chat(behaviour=held, timeout=TIMEOUT_S)
    sending.register(chat)
    chats, relay = [chat], sending
    if ticking == "another process":
        relay = open_outbox(clock=clock)
        chats.append(Chat(timeout=TIMEOUT_S))
        relay.register(chats[-1])
    (message_id,) = enqueue_many(sending, 1)
    slow = InThread(lambda: deliver(sending))
    assert held.entered.wait(WAIT_S)

    for _ in range(20):
        clock.advance(2 * SECOND)
        relay.maintain_once()
        relay.relay_once()
    assert Row(sending, message_id).status == "sending"
    held.let_go.set()
    slow.result()

    assert [sent for each in chats for sent in each.sent] == ["0"]
    row = Row(sending, message_id)
    assert (row.status, row.attempt_count) == ("delivered", 1)


@pytest.mark.proves("R10", "T10", "T11")
def test_a_process_that_starts_leaves_what_another_is_sending_until_its_lease_is_over(
    open_outbox: OpenOutbox, clock: FakeClock
) -> None:
    before = open_outbox(clock=clock)
    before.register(Chat())
    old, leased = enqueue_many(before, 2)
    put(
        before, leased, status="sending", attempt_count=1, lease=1, lease_owner="another", lease_until=NOW + 60 * SECOND,
        last_attempt_at=NOW,
    )  # fmt: skip
    clock.advance(30 * SECOND)
    started, chat = open_outbox(clock=clock), Chat()
    started.register(chat)
    enqueue(started, NewMessage(channel="chat", target="new"))

    started.maintain_once()
    started.drain()
    assert chat.sent == ["0", "new"], "what was enqueued before the start and after it, and nothing that is leased"

    clock.advance(30 * SECOND + 1)
    started.maintain_once()
    assert Row(started, leased).status == "failed_retryable"
    clock.advance(60 * SECOND)
    started.drain()
    assert chat.sent == ["0", "new", "1"]
    assert statuses(started, [old, leased]) == ["delivered", "delivered"]


@pytest.mark.proves("R9", "T15")
def test_each_pass_sees_what_was_configured_since_the_last(open_outbox: OpenOutbox) -> None:
    relaying, operator = open_outbox(), open_outbox()
    enqueue_many(operator, 1)
    relaying.relay_once()

    chat = Chat()
    relaying.register(chat)
    relaying.relay_once()
    assert chat.sent == ["0"]

    operator.pause("chat")
    enqueue(operator, NewMessage(channel="chat", target="waits"))
    relaying.relay_once()
    assert chat.sent == ["0"]

    operator.resume("chat")
    relaying.relay_once()
    assert chat.sent == ["0", "waits"]


@pytest.mark.proves("T35")
def test_a_failure_that_will_be_tried_again_is_nobody_elses_to_retry(open_outbox: OpenOutbox, clock: FakeClock) -> None:
    outbox = open_outbox(clock=clock)
    chat = Chat(behaviour=one_after_another(raising(RetryLater("busy")), returning(None)), backoff=Backoff((5.0,), jitter=0))
    outbox.register(chat)
    (first,) = enqueue_many(outbox, 1, idempotency_key="order-1")

    deliver(outbox)  # whoever runs the delivery gets a report, and no error to act upon
    assert statuses(outbox, [first]) == ["failed_retryable"]
    assert enqueue_many(outbox, 1, idempotency_key="order-1") == [first], "whoever asks again gets the one under way"
    outbox.drain()
    assert chat.sent == ["0"]

    clock.advance(5 * SECOND)
    outbox.drain()
    assert chat.sent == ["0", "0"]
    assert statuses(outbox, [first]) == ["delivered"]


@pytest.mark.proves("R18")
def test_r18_a_relay_pass_ends_with_its_budget_and_what_is_left_is_not_charged(outbox: Outbox) -> None:
    outbox.register(Chat())
    ids = enqueue_many(outbox, 5)
    capture = Capture()
    report = Relay(outbox.store, outbox.channels, capture, outbox.telemetry, outbox.owner, claim_limit=2).run_once(budget_s=0.0)
    assert (report.claimed, len(capture.claims)) == (2, 2)
    left = rows(outbox, ids[2:])
    assert [(row.status, row.attempt_count, row.lease) for row in left] == [("queued", 0, 0)] * 3


def test_a_message_that_waits_for_its_worker_names_the_process_that_claimed_it(outbox: Outbox) -> None:
    outbox.register(Chat())
    ids = enqueue_many(outbox, 2)

    claim(outbox)

    assert {row.lease_owner for row in rows(outbox, ids)} == {outbox.owner()}
