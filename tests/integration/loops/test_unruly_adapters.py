"""Adapters that raise what they should not, return what they should not, or never return: the row is settled all the same."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from outbox import Attempt, Message, Outbox, Receipt
from outbox.lifecycle import Status
from outbox.telemetry import LeaseLost
from tests.integration.loops.scene import (
    WAIT_S,
    AsyncChat,
    Chat,
    Events,
    Held,
    InThread,
    Row,
    await_condition,
    claim,
    deliver,
    enqueue_many,
    raising,
    returning,
    statuses,
)

BOTH = pytest.mark.parametrize("kind", [Chat, AsyncChat], ids=["plain", "async"])


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Own(BaseException):
    pass


UNRULY = {
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "own BaseException": Own("stop everything"),
    "StopIteration": StopIteration(7),
    "without text": Unspeakable(),
    "NUL and surrogates": ValueError("a\0b\ud800c"),
    "huge": ValueError("x" * 1_000_000),
    "group": ExceptionGroup("several", [ValueError("one"), OSError("two")]),
}


@BOTH
@pytest.mark.parametrize("error", UNRULY)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_an_adapter_raises_settles_its_row_and_no_other(outbox: Outbox, kind: type[Chat], error: str) -> None:
    chat = kind(behaviour={"1": raising(UNRULY[error])}, concurrency=3)
    outbox.register(chat)
    ids = enqueue_many(outbox, 5)
    deliver(outbox)
    assert statuses(outbox, ids) == ["delivered", "failed_retryable", "delivered", "delivered", "delivered"]
    row = Row(outbox, ids[1])
    assert row.last_error
    assert len(row.last_error) <= 4_000
    assert (row.attempt_count, row.error_class) == (1, "transient")


@BOTH
@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt"])
def test_the_process_goes_on_sending_after_an_adapter_wanted_to_end_it(outbox: Outbox, kind: type[Chat], error: str) -> None:
    outbox.register(kind(behaviour={"0": raising(UNRULY[error])}))
    enqueue_many(outbox, 1)
    deliver(outbox)
    (later,) = enqueue_many(outbox, 1, target="later")
    deliver(outbox)
    assert statuses(outbox, [later]) == ["delivered"]


def test_a_send_that_is_cancelled_from_within_is_unknown(outbox: Outbox) -> None:
    outbox.register(AsyncChat(behaviour=raising(asyncio.CancelledError())))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    row = Row(outbox, message_id)
    assert (row.status, row.error_class, row.last_error) == ("failed_retryable", "unknown", "the send was interrupted")


# Answers.


@BOTH
@pytest.mark.parametrize(
    "answer",
    [None, True, False, 5, "ok", {"id": 1}, [], object()],
    ids=["none", "true", "false", "number", "text", "dict", "list", "object"],
)
def test_returning_anything_means_that_it_was_accepted(outbox: Outbox, kind: type[Chat], answer: Any) -> None:
    outbox.register(kind(behaviour=returning(answer)))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    message = outbox.get(message_id)
    assert (message.status, message.receipt) == (Status.DELIVERED, None)


def lazily() -> Iterator[None]:
    yield


async def forgotten() -> None: ...


async def lazily_too() -> Any:
    yield


@pytest.mark.parametrize("answer", [lazily, forgotten, lazily_too], ids=["generator", "coroutine", "async generator"])
def test_invariant_8_an_adapter_whose_body_never_ran_has_not_delivered(outbox: Outbox, answer: Any) -> None:
    outbox.register(Chat(behaviour=lambda _m, _a: answer()))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    row = Row(outbox, message_id)
    assert (row.status, row.attempt_count) == ("queued", 0)
    (gate,) = outbox.store.gates()
    assert "was never run: declare it with `async def`" in str(gate.reason)


class Unlookable:
    def __bool__(self) -> bool:
        raise RuntimeError("ambiguous")


RECEIPTS = {
    "NUL": (Receipt("a\0b"), {"provider_id": "a\N{REPLACEMENT CHARACTER}b"}),
    "surrogates": (Receipt("a\ud800"), {"provider_id": "a?"}),
    "number": (Receipt(7), {"provider_id": "7"}),  # type: ignore[arg-type]
    "huge id": (Receipt("x" * 100_000), {"provider_id": "x" * 499 + "…"}),
    "huge details": (Receipt("7", {"text": "x" * 20_000}), {"provider_id": "7", "details_left_out": "20041 characters"}),
    "unstorable": (
        Receipt("7", {"a": [object()]}),
        {
            "provider_id": "7",
            "details_left_out": "$.details.a[0] is a builtins.object, which cannot be stored; convert it first",
        },
    ),
    "bad key": (
        Receipt("7", {"\ud800": 1}),
        {"provider_id": "7", "details_left_out": "$.details holds half of a surrogate pair, which is no text"},
    ),
    "NUL in details": (Receipt(None, {"a": "b\0c"}), {"details": {"a": "b\0c"}}),
    "unlookable": (Receipt("7", Unlookable()), {"details_left_out": "RuntimeError"}),  # type: ignore[arg-type]
    "unspeakable": (Receipt(Unspeakable()), {"details_left_out": "RuntimeError"}),  # type: ignore[arg-type]
}


@pytest.mark.proves("T3")
@pytest.mark.parametrize("name", RECEIPTS)
def test_t3_a_receipt_that_cannot_be_kept_does_not_undo_the_delivery(outbox: Outbox, name: str) -> None:
    receipt, kept = RECEIPTS[name]
    outbox.register(Chat(behaviour=returning(receipt)))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    message = outbox.get(message_id)
    assert (message.status, message.receipt) == (Status.DELIVERED, kept)


# Sends that do not return.


def succeed_late(outbox: Outbox, message_id: str, let_go: threading.Event) -> None:
    """End the send that hangs; no test ends before its thread has recorded the success."""
    let_go.set()
    await_condition(lambda: outbox.get(message_id).status is Status.DELIVERED, "the late success")


def test_a_wedged_send_is_unknown_after_its_timeout_and_what_has_not_begun_is_released(outbox: Outbox) -> None:
    wedged = Held()
    chat = Chat(behaviour={"0": wedged}, timeout=0.2)
    outbox.register(chat)
    ids = enqueue_many(outbox, 3)
    report = deliver(outbox)
    row = Row(outbox, ids[0])
    assert (row.status, row.error_class, row.attempt_count) == ("failed_retryable", "unknown", 1)
    assert row.last_error == "the send did not return within 0.2 s"
    assert report.released == 2
    assert [Row(outbox, message_id).attempt_count for message_id in ids[1:]] == [0, 0]
    succeed_late(outbox, ids[0], wedged.let_go)


def test_a_wedged_send_is_noticed_while_its_lease_still_holds(outbox: Outbox) -> None:
    wedged, events = Held(), Events(outbox)
    outbox.register(Chat(behaviour=wedged, timeout=0.2))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    taken = outbox.attempts(message_id)[0]
    assert taken.finished_at < taken.started_at + 10_000
    assert events.of(LeaseLost) == []
    succeed_late(outbox, message_id, wedged.let_go)


def test_the_success_of_a_wedged_send_is_recorded_even_after_its_task_is_over(outbox: Outbox) -> None:
    wedged = Held()
    chat = Chat(behaviour=wedged, timeout=0.2)
    outbox.register(chat)
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    assert statuses(outbox, [message_id]) == ["failed_retryable"]
    succeed_late(outbox, message_id, wedged.let_go)
    assert outbox.get(message_id).terminal_reason == "settled late"
    outbox.drain()
    assert len(chat.sent) == 1


@pytest.mark.proves("T5")
def test_t5_the_late_failure_of_a_wedged_send_changes_nothing(outbox: Outbox) -> None:
    wedged = Held()

    def fail_late(message: Message, attempt: Attempt) -> None:
        wedged(message, attempt)
        raise ValueError("too late")

    outbox.register(Chat(behaviour=fail_late, timeout=0.2))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    before = vars(Row(outbox, message_id))
    wedged.let_go.set()
    await_condition(lambda: outbox.delivery.senders._crew._idle == 1, "the late failure")  # its thread is free again
    assert vars(Row(outbox, message_id)) == before


def test_other_sends_of_the_task_end_in_peace_beside_a_wedged_one(outbox: Outbox) -> None:
    wedged = Held()
    chat = Chat(behaviour={"0": wedged}, timeout=1.0, concurrency=2)
    outbox.register(chat)
    ids = enqueue_many(outbox, 10)
    deliver(outbox)
    found = statuses(outbox, ids)
    assert found[0] == "failed_retryable"
    assert set(found[1:]) <= {"delivered", "queued"}
    assert found.count("delivered") == len(chat.sent) - 1
    succeed_late(outbox, ids[0], wedged.let_go)


def test_a_later_task_does_not_wait_for_a_wedged_thread(outbox: Outbox) -> None:
    wedged = Held()
    outbox.register(Chat(behaviour={"0": wedged}, timeout=1.0))
    (held,) = enqueue_many(outbox, 1)
    deliver(outbox)
    (later,) = enqueue_many(outbox, 1, target="later")
    deliver(outbox)
    assert statuses(outbox, [later]) == ["delivered"]
    succeed_late(outbox, held, wedged.let_go)


def test_an_async_send_without_an_answer_is_unknown_after_its_timeout(outbox: Outbox) -> None:
    async def hang(_message: Message, _attempt: Attempt) -> None:
        await asyncio.sleep(WAIT_S)

    chat = AsyncChat(behaviour={"0": hang}, timeout=1.0, concurrency=2)
    outbox.register(chat)
    ids = enqueue_many(outbox, 5)
    deliver(outbox)
    row = Row(outbox, ids[0])
    assert (row.status, row.error_class, row.last_error) == ("failed_retryable", "unknown", "no answer within 1 s")
    assert statuses(outbox, ids[1:]) == ["delivered"] * 4


def test_an_adapters_own_time_out_is_told_by_its_own_words(outbox: Outbox) -> None:
    outbox.register(AsyncChat(behaviour=raising(TimeoutError("pool is empty")), timeout=5))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    assert outbox.get(message_id).last_error == "TimeoutError: pool is empty"


def test_an_async_success_that_comes_after_its_cancellation_counts(outbox: Outbox) -> None:
    async def stubborn(_message: Message, _attempt: Attempt) -> Receipt:
        try:
            await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError:
            return Receipt("done")  # the answer had been read when the cancellation came
        raise AssertionError

    outbox.register(AsyncChat(behaviour=stubborn, timeout=0.2))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    assert outbox.get(message_id).receipt == {"provider_id": "done"}


def block(let_go: threading.Event) -> Any:
    async def behave(_message: Message, _attempt: Attempt) -> None:
        assert let_go.wait(WAIT_S)  # what no coroutine may do

    return behave


def test_an_async_send_that_blocks_its_loop_is_unknown_and_those_behind_it_are_released(outbox: Outbox) -> None:
    let_go = threading.Event()
    chat = AsyncChat(behaviour={"0": block(let_go)}, timeout=0.2, concurrency=3)
    outbox.register(chat)
    ids = enqueue_many(outbox, 3)
    report = deliver(outbox)
    row = Row(outbox, ids[0])
    assert (row.status, row.last_error) == ("failed_retryable", "the send did not return within 0.2 s")
    assert chat.sent == ["0"]
    assert [(row.status, row.attempt_count) for row in (Row(outbox, message_id) for message_id in ids[1:])] == [
        ("queued", 0)
    ] * 2
    assert report.released == 2
    succeed_late(outbox, ids[0], let_go)


def test_later_async_sends_do_not_wait_for_a_blocked_loop(outbox: Outbox) -> None:
    let_go = threading.Event()
    outbox.register(AsyncChat(behaviour={"0": block(let_go)}, timeout=1.0))
    (held,) = enqueue_many(outbox, 1)
    deliver(outbox)
    (later,) = enqueue_many(outbox, 1, target="later")
    deliver(outbox)
    assert statuses(outbox, [later]) == ["delivered"]
    succeed_late(outbox, held, let_go)


def test_async_sends_of_others_that_wait_for_a_blocked_loop_have_the_next_one(outbox: Outbox) -> None:
    let_go = threading.Event()
    chat = AsyncChat(behaviour=block(let_go), timeout=1.0)
    outbox.register(chat)
    outbox.register(AsyncChat("other", timeout=WAIT_S))
    (held,), (waiting,) = enqueue_many(outbox, 1), enqueue_many(outbox, 1, channel="other")
    claims = {claim.id: claim for claim in claim(outbox)}
    blocking = InThread(lambda: deliver(outbox, [claims[held]]))
    await_condition(lambda: chat.sent == ["0"], "the blocking send")

    deliver(outbox, [claims[waiting]], channel="other")

    assert statuses(outbox, [waiting]) == ["delivered"]
    blocking.result()
    succeed_late(outbox, held, let_go)


def test_the_success_of_a_send_that_blocked_its_loop_is_recorded(outbox: Outbox) -> None:
    let_go = threading.Event()
    outbox.register(AsyncChat(behaviour=block(let_go), timeout=0.2))
    (message_id,) = enqueue_many(outbox, 1)
    deliver(outbox)
    succeed_late(outbox, message_id, let_go)


def test_a_send_that_could_not_begin_in_time_is_given_back_uncharged(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """No send begins unless the monotonic time since before the take leaves the whole timeout within the lease."""
    monkeypatch.setattr("outbox.leases.LEASE_MARGIN_S", -1.0)
    chat = Chat(timeout=30)
    outbox.register(chat)
    (message_id,) = enqueue_many(outbox, 1)
    report = deliver(outbox)
    row = Row(outbox, message_id)
    assert chat.sent == []
    assert (row.status, row.attempt_count, report.released) == ("queued", 0, 1)


# Shutting down.


@BOTH
def test_closing_gives_back_the_channels_connections(outbox: Outbox, kind: type[Chat]) -> None:
    closed: list[str] = []

    class Closing(kind):  # type: ignore[misc, valid-type]
        async def aclose(self) -> None:
            closed.append(self.name)

    outbox.register(Closing("one"))
    outbox.register(Closing("two"))
    enqueue_many(outbox, 1, channel="one")
    deliver(outbox, channel="one")
    outbox.close()
    assert sorted(closed) == ["one", "two"]


def test_a_channel_that_fails_to_close_keeps_no_other_from_it(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    class Failing(Chat):
        async def aclose(self) -> None:
            raise RuntimeError("no connection to give back")

    class Closing(Chat):
        async def aclose(self) -> None:
            closed.append(self.name)

    outbox.register(Failing("one"))
    outbox.register(Closing("two"))
    with caplog.at_level(logging.ERROR):
        outbox.close()
    assert closed == ["two"]
    assert "channel one did not give back its connections" in caplog.text


def test_a_send_under_way_at_the_close_is_unknown_and_not_forgotten(outbox: Outbox) -> None:
    entered = threading.Event()

    async def hang(_message: Message, _attempt: Attempt) -> None:
        entered.set()
        await asyncio.sleep(WAIT_S)

    outbox.register(AsyncChat(behaviour=hang))
    (message_id,) = enqueue_many(outbox, 1)
    claims = claim(outbox)
    task = threading.Thread(target=deliver, args=(outbox, claims))
    task.start()
    assert entered.wait(WAIT_S)
    outbox.close()
    task.join(WAIT_S)
    assert Row(outbox, message_id).last_error == "the send was interrupted"


def test_an_outbox_can_be_used_again_after_it_was_closed(outbox: Outbox) -> None:
    outbox.register(AsyncChat())
    for target in ("before", "after"):
        (message_id,) = enqueue_many(outbox, 1, target=target)
        deliver(outbox)
        assert statuses(outbox, [message_id]) == ["delivered"]
        outbox.close()


@BOTH
def test_a_task_that_has_taken_a_message_when_its_outbox_is_closed_sends_nothing(
    outbox: Outbox, kind: type[Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, closed = threading.Event(), threading.Event()
    take = outbox.store.take

    def take_slowly(*arguments: Any) -> Any:
        found = take(*arguments)
        taken.set()
        assert closed.wait(WAIT_S)
        return found

    class Closing(kind):  # type: ignore[misc, valid-type]
        async def aclose(self) -> None:
            closed.set()

    outbox.register(chat := Closing())
    (message_id,) = enqueue_many(outbox, 1)
    claims = claim(outbox)
    monkeypatch.setattr(outbox.store, "take", take_slowly)
    task = InThread(lambda: deliver(outbox, claims))
    assert taken.wait(WAIT_S)

    outbox.close()
    task.result()

    row = Row(outbox, message_id)
    assert (chat.sent, row.status, row.attempt_count) == ([], "queued", 0)
