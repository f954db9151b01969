"""Reconciliation: after an unknown outcome the next attempt first asks the other side, and only what it says decides.

Sent: delivered, and not sent again. Not sent: sent now. Nobody can tell: parked for an operator.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from outbox import (
    Backoff,
    Message,
    NotReady,
    Outbox,
    OutcomeUnknown,
    PermanentFailure,
    Receipt,
    RetryLater,
    Suppressed,
)
from outbox.lifecycle import Status
from outbox.policy.retry import OnUnknown
from outbox.store.records import Taker
from outbox.testing import FakeClock
from tests.contract.steps import MINUTE
from tests.integration.conftest import OpenOutbox
from tests.integration.loops.scene import (
    AsyncChat,
    Behaviour,
    Chat,
    Row,
    claim,
    deliver,
    enqueue_many,
    one_after_another,
    put,
    raising,
    returning,
)

Answer = Callable[[], Any]
TryAgain = Callable[[], Row]
NO_ANSWER = raising(OutcomeUnknown("no answer"))
ACCEPTED = returning(Receipt("from the send"))


class Asked(Chat):
    """A chat whose other side can be asked what it has; ``answers`` are its answers, one after another."""

    on_unknown = OnUnknown.RECONCILE
    backoff = Backoff((1.0,), jitter=0)

    def __init__(self, *answers: Answer, behaviour: Behaviour | None = None, **policy: Any) -> None:
        super().__init__(behaviour=behaviour or one_after_another(NO_ANSWER, ACCEPTED), **policy)
        self._answers = list(answers)
        self.asked: list[Message] = []

    def find_delivery(self, message: Message) -> Any:
        self.asked.append(message)
        return self._answers.pop(0)()


class AskedAsync(Asked, AsyncChat):
    """The same on the event loop."""

    async def find_delivery(self, message: Message) -> Any:
        await asyncio.sleep(0)
        return super().find_delivery(message)


BOTH = pytest.mark.parametrize("kind", [Asked, AskedAsync], ids=["plain", "async"])


def says(answer: Any) -> Answer:
    return lambda: answer


def fails(error: BaseException) -> Answer:
    def answer() -> None:
        raise error

    return answer


@pytest.fixture
def outbox(open_outbox: OpenOutbox, clock: FakeClock) -> Outbox:
    return open_outbox(clock=clock)


@pytest.fixture
def try_again(outbox: Outbox, clock: FakeClock) -> TryAgain:
    """One more attempt of the only message, and the row after it."""

    def attempt() -> Row:
        clock.advance(MINUTE)
        deliver(outbox)
        (message,) = outbox.list()
        return Row(outbox, message.id)

    return attempt


def send_without_answer(outbox: Outbox, chat: Asked) -> str:
    """A message whose first attempt got no answer."""
    outbox.register(chat)
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    assert Row(outbox, message_id).outcome_unknown
    return message_id


@BOTH
def test_a_first_attempt_asks_nobody(outbox: Outbox, kind: type[Asked]) -> None:
    chat = kind()
    send_without_answer(outbox, chat)

    assert (len(chat.sent), chat.asked) == (1, [])


@BOTH
def test_what_the_other_side_has_is_delivered_with_its_receipt_and_not_sent_again(
    outbox: Outbox, try_again: TryAgain, kind: type[Asked]
) -> None:
    chat = kind(says(Receipt("found", {"at": 3})))
    message_id = send_without_answer(outbox, chat)

    row = try_again()

    assert (row.status, row.attempt_count, len(chat.sent)) == (Status.DELIVERED, 2, 1)
    assert outbox.get(message_id).receipt == {"provider_id": "found", "details": {"at": 3}}
    assert [message.id for message in chat.asked] == [message_id]


@BOTH
def test_yes_is_enough_of_an_answer(outbox: Outbox, try_again: TryAgain, kind: type[Asked]) -> None:
    chat = kind(says(True))
    send_without_answer(outbox, chat)

    row = try_again()

    assert (row.status, row.receipt, len(chat.sent)) == (Status.DELIVERED, None, 1)


@BOTH
def test_what_the_other_side_does_not_have_is_sent_in_the_same_attempt_under_the_same_key(
    outbox: Outbox, try_again: TryAgain, kind: type[Asked]
) -> None:
    chat = kind(says(False))
    message_id = send_without_answer(outbox, chat)

    row = try_again()

    assert (row.status, row.attempt_count, len(chat.sent)) == (Status.DELIVERED, 2, 2)
    assert [attempt.idempotency_key for attempt in chat.attempts] == [message_id] * 2
    assert [attempt.is_recovery for attempt in chat.attempts] == [False, True]


@BOTH
def test_what_was_found_unsent_and_failed_in_passing_is_sent_without_asking_again(
    outbox: Outbox, try_again: TryAgain, kind: type[Asked]
) -> None:
    chat = kind(says(False), behaviour=one_after_another(NO_ANSWER, raising(RetryLater("busy")), ACCEPTED))
    send_without_answer(outbox, chat)

    row = try_again()
    assert (row.status, row.outcome_unknown) == (Status.FAILED_RETRYABLE, 0)
    assert try_again().status == Status.DELIVERED
    assert (len(chat.asked), len(chat.sent)) == (1, 3)


@BOTH
def test_a_second_send_without_an_answer_is_asked_after_as_well(outbox: Outbox, try_again: TryAgain, kind: type[Asked]) -> None:
    chat = kind(says(False), says(True), behaviour=NO_ANSWER)
    send_without_answer(outbox, chat)

    assert try_again().outcome_unknown
    assert try_again().status == Status.DELIVERED
    assert (len(chat.asked), len(chat.sent)) == (2, 2)


@BOTH
def test_what_nobody_can_tell_is_parked_unsent_for_an_operator(outbox: Outbox, try_again: TryAgain, kind: type[Asked]) -> None:
    chat = kind(says(None))
    send_without_answer(outbox, chat)

    row = try_again()

    assert (row.status, row.terminal_reason, row.outcome_unknown) == (Status.PARKED, "unknown outcome", 1)
    assert "nobody can tell" in row.last_error
    assert try_again().attempt_count == 2
    assert (len(chat.asked), len(chat.sent)) == (1, 1)


@BOTH
@pytest.mark.parametrize("error", [RetryLater("busy"), OutcomeUnknown("no answer"), ConnectionError("refused"), KeyError("id")])
def test_a_question_that_fails_in_passing_is_asked_again_and_nothing_is_sent_meanwhile(
    outbox: Outbox, try_again: TryAgain, kind: type[Asked], error: Exception
) -> None:
    chat = kind(fails(error), says(True))
    send_without_answer(outbox, chat)

    row = try_again()
    assert (row.status, row.outcome_unknown, len(chat.sent)) == (Status.FAILED_RETRYABLE, 1, 1)
    assert try_again().status == Status.DELIVERED
    assert (len(chat.asked), len(chat.sent)) == (2, 1)


@BOTH
@pytest.mark.parametrize("error", [PermanentFailure("no such account"), Suppressed("not now"), ValueError("bad request")])
def test_a_question_that_can_never_be_answered_parks_the_message_with_what_was_said(
    outbox: Outbox, try_again: TryAgain, kind: type[Asked], error: Exception
) -> None:
    chat = kind(fails(error))
    send_without_answer(outbox, chat)

    row = try_again()

    assert (row.status, row.outcome_unknown, len(chat.sent)) == (Status.PARKED, 1, 1)
    assert str(error) in row.last_error


@BOTH
@pytest.mark.parametrize("error", [RetryLater("busy"), OutcomeUnknown("no answer")])
def test_a_question_that_fails_until_the_attempts_are_used_up_parks_the_message(
    outbox: Outbox, try_again: TryAgain, kind: type[Asked], error: Exception
) -> None:
    """A dead letter would say that it was not sent, and nobody knows that."""
    chat = kind(fails(error), fails(error), max_attempts=3)
    send_without_answer(outbox, chat)

    try_again()
    row = try_again()

    assert (row.status, row.terminal_reason, row.attempt_count) == (Status.PARKED, "unknown outcome", 3)
    assert len(chat.sent) == 1


@BOTH
def test_what_was_found_unsent_and_used_up_its_attempts_is_a_dead_letter(
    outbox: Outbox, try_again: TryAgain, kind: type[Asked]
) -> None:
    chat = kind(says(False), behaviour=one_after_another(NO_ANSWER, raising(RetryLater("busy"))), max_attempts=2)
    send_without_answer(outbox, chat)

    row = try_again()

    assert (row.status, row.terminal_reason) == (Status.FAILED_TERMINAL, "attempts used up")


@BOTH
def test_a_side_that_is_not_ready_to_be_asked_costs_no_attempt(outbox: Outbox, try_again: TryAgain, kind: type[Asked]) -> None:
    chat = kind(fails(NotReady("not connected")), says(True))
    send_without_answer(outbox, chat)

    row = try_again()

    assert (row.status, row.attempt_count, row.outcome_unknown) == (Status.FAILED_RETRYABLE, 1, 1)
    assert len(chat.sent) == 1
    assert try_again().status == Status.DELIVERED


def test_a_question_without_an_answer_ends_with_the_timeout(outbox: Outbox, try_again: TryAgain) -> None:
    class Silent(AsyncChat):
        on_unknown = OnUnknown.RECONCILE
        backoff = Backoff((1.0,), jitter=0)

        async def find_delivery(self, message: Message) -> None:
            await asyncio.Event().wait()

    silent = Silent(behaviour=NO_ANSWER, timeout=0.05)
    outbox.register(silent)
    enqueue_many(outbox, 1)
    deliver(outbox)

    row = try_again()

    assert (row.status, row.outcome_unknown, len(silent.sent)) == (Status.FAILED_RETRYABLE, 1, 1)
    assert "no answer within" in row.last_error


@BOTH
def test_what_a_dead_worker_was_sending_is_asked_after(
    outbox: Outbox, clock: FakeClock, try_again: TryAgain, kind: type[Asked]
) -> None:
    chat = kind(says(True))
    outbox.register(chat)
    enqueue_many(outbox, 1)
    outbox.store.take(claim(outbox), Taker("chat", "dead-process", 30_000))
    clock.advance(MINUTE)
    outbox.maintain_once()

    row = try_again()

    assert (row.status, len(chat.asked), chat.sent) == (Status.DELIVERED, 1, [])


@BOTH
def test_what_was_sent_is_delivered_although_its_row_can_no_longer_be_read(
    outbox: Outbox, try_again: TryAgain, kind: type[Asked]
) -> None:
    message_id = send_without_answer(outbox, kind(says(True)))
    put(outbox, message_id, payload="{ torn")

    assert try_again().status == Status.DELIVERED


def test_a_channel_that_sends_again_asks_nobody(outbox: Outbox, try_again: TryAgain) -> None:
    chat = Asked(on_unknown="resend")
    send_without_answer(outbox, chat)

    assert try_again().status == Status.DELIVERED
    assert (chat.asked, len(chat.sent)) == ([], 2)


def test_an_operators_replay_is_a_fresh_start_and_asks_nobody(outbox: Outbox, try_again: TryAgain) -> None:
    chat = Asked(says(None))
    message_id = send_without_answer(outbox, chat)
    assert try_again().status == Status.PARKED

    outbox.retry(message_id)

    assert try_again().status == Status.DELIVERED
    assert (len(chat.asked), len(chat.sent)) == (1, 2)
