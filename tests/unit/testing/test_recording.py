"""Channels that record in place of sending, time that jumps, and a database that threads share."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from outbox import Attempt, Channel, Message, NewMessage, Outbox, OutcomeUnknown, PermanentFailure, Receipt, RetryLater
from outbox.errors import SchemaError, UnknownChannel
from outbox.lifecycle import Status
from outbox.policy.retry import OnUnknown
from outbox.testing import FakeClock, Recorder, recording, run_until_quiet, sqlite_in_memory


class Chat(Channel):
    """What a test must never reach."""

    name = "chat"
    ordered = True

    def send_final(self, message: Message, attempt: Attempt) -> None:
        raise PermanentFailure("the network was touched")


class AsyncChat(Chat):
    name = "async-chat"

    async def send_final(self, message: Message, attempt: Attempt) -> None:
        raise PermanentFailure("the network was touched")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def outbox(clock: FakeClock) -> Iterator[Outbox]:
    with sqlite_in_memory(with_schema=True) as url:
        outbox = Outbox(url, clock=clock, channels=[Chat(), AsyncChat(), Recorder()])
        yield outbox
        outbox.close()


def enqueue(outbox: Outbox, channel: str = "chat", count: int = 1, **fields: Any) -> None:
    messages = [NewMessage(channel=channel, **{"target": "42", "payload": number, **fields}) for number in range(count)]
    with outbox.store.transaction() as tx:
        outbox.enqueue_many(tx.connection, messages)


@pytest.mark.parametrize("channel", ["chat", "async-chat"])
def test_a_diverted_channel_sends_nothing_and_remembers_in_order(outbox: Outbox, channel: str) -> None:
    enqueue(outbox, channel, 3)

    with recording(outbox, channel) as recorded:
        outbox.drain()

    assert (recorded.payloads, recorded.targets) == ([0, 1, 2], ["42"] * 3)
    assert [attempt.number for attempt in recorded.attempts] == [1, 1, 1]
    assert {message.status for message in outbox.list()} == {Status.DELIVERED}


def test_functions_that_are_channels_are_diverted_as_well(outbox: Outbox) -> None:
    @outbox.channel("plain")
    def plain(message: Message, attempt: Attempt) -> None:
        raise PermanentFailure("the network was touched")

    @outbox.channel("coroutine")
    async def coroutine(message: Message, attempt: Attempt) -> None:
        raise PermanentFailure("the network was touched")

    for name in ("plain", "coroutine"):
        enqueue(outbox, name)
    with recording(outbox) as recorded:
        outbox.drain()

    assert sorted(message.channel for message in recorded.messages) == ["coroutine", "plain"]
    assert {message.status for message in outbox.list()} == {Status.DELIVERED}


@pytest.mark.parametrize("channel", ["chat", "async-chat"])
def test_afterwards_the_channel_is_itself_again(outbox: Outbox, channel: str) -> None:
    with pytest.raises(ZeroDivisionError), recording(outbox):
        _ = 1 / 0

    enqueue(outbox, channel)
    outbox.drain()

    (message,) = outbox.list()
    assert message.last_error == "the network was touched"


def test_a_send_that_a_test_has_put_on_a_channel_itself_is_put_back(outbox: Outbox) -> None:
    chat: Any = outbox.channels.get("chat")
    chat.send_final = lambda message, attempt: Receipt("of the test")
    with recording(outbox):
        pass

    enqueue(outbox)
    outbox.drain()

    assert outbox.list()[0].receipt == {"provider_id": "of the test"}


def test_only_the_named_channels_are_diverted_and_a_misspelt_one_is_refused(outbox: Outbox) -> None:
    enqueue(outbox)
    with recording(outbox, "async-chat") as recorded:
        outbox.drain()
    assert recorded.messages == []

    with pytest.raises(UnknownChannel, match="did you mean 'chat'"), recording(outbox, "caht"):
        pass


def test_answers_say_what_the_next_sends_come_to_and_what_the_channel_declares_stays_in_force(
    outbox: Outbox, clock: FakeClock
) -> None:
    enqueue(outbox, count=2)
    with recording(outbox, "chat") as recorded:
        recorded.answer(RetryLater("busy", after=60), Receipt("first"), lambda message, _attempt: Receipt(message.target))
        outbox.drain()
        assert recorded.payloads == [0], "the second waits for the first: the channel is ordered"
        clock.advance(minutes=1)
        outbox.drain()

    assert recorded.payloads == [0, 0, 1]
    assert [message.receipt["provider_id"] for message in outbox.list()] == ["42", "first"]


@pytest.mark.parametrize("channel", ["chat", "async-chat"])
def test_a_channel_that_asks_before_it_sends_again_asks_the_recording(outbox: Outbox, clock: FakeClock, channel: str) -> None:
    outbox.channels.get(channel).on_unknown = OnUnknown.RECONCILE
    enqueue(outbox, channel, 2)

    with recording(outbox, channel) as recorded:
        recorded.answer(OutcomeUnknown("no answer"))
        run_until_quiet(outbox, clock)

    assert recorded.payloads == [0, 0, 1], "what was not accepted is sent once more"
    assert {message.status for message in outbox.list()} == {Status.DELIVERED}


def test_time_jumps_from_one_due_moment_to_the_next_until_all_is_quiet(outbox: Outbox, clock: FakeClock) -> None:
    began = clock.now
    enqueue(outbox)
    enqueue(outbox, "recorder", delay=3600)
    with recording(outbox) as recorded:
        recorded.answer(*[RetryLater("busy")] * 5)
        ended = run_until_quiet(outbox, clock)

    assert ended == {Status.FAILED_TERMINAL: 1, Status.DELIVERED: 1}
    assert [attempt.number for attempt in recorded.attempts] == [1, 2, 3, 4, 5, 1]
    assert clock.now == began + 3_600_000


def test_time_stops_where_it_was_told_to(outbox: Outbox, clock: FakeClock) -> None:
    enqueue(outbox, "recorder", delay=3 * 24 * 3600)

    assert run_until_quiet(outbox, clock) == {Status.QUEUED: 1}
    assert clock.now == FakeClock().now


def test_the_clock_counts_in_milliseconds_and_in_whatever_is_named() -> None:
    clock = FakeClock(1_000)
    clock.advance(5)
    clock.advance(seconds=1.5, minutes=2)

    assert clock.now_ms() == 1_000 + 5 + 121_500


def test_threads_share_the_database_in_memory_as_they_would_a_file(outbox: Outbox) -> None:
    failures: list[BaseException] = []

    def enqueue_and_look() -> None:
        try:
            for _ in range(20):
                enqueue(outbox, "recorder")
                outbox.list(limit=1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=enqueue_and_look) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        outbox.drain()
    outbox.drain()

    assert failures == []
    recorder = outbox.channels.get("recorder")
    assert isinstance(recorder, Recorder)
    assert len(recorder.recording.messages) == 80


def test_each_database_in_memory_is_one_of_its_own_and_gone_in_the_end() -> None:
    with sqlite_in_memory(with_schema=True) as url, sqlite_in_memory() as other:
        with closing(Outbox(url)) as outbox:
            outbox.check_schema()
        with closing(Outbox(other)) as outbox, pytest.raises(SchemaError):
            outbox.list()
    with closing(Outbox(url)) as outbox, pytest.raises(SchemaError):
        outbox.list()
