"""Rows of one ordering key that travel in one delivery task, under the number that the broker message gives their key."""

from collections.abc import Iterator, Sequence

import pytest

from outbox import Attempt, Message, NewMessage, Outbox, RetryLater
from outbox.batching import Batch
from outbox.integrations.celery import envelope
from outbox.lifecycle import Status
from outbox.relay import Relay


class OverTheWire:
    """Delivers at once what a worker would read from the broker."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def dispatch(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            read = envelope.pack(batch.claims, capped=batch.capped)
            claims = envelope.unpack(read["v"], read["claims"])
            self._outbox.delivery.run(self._outbox.channels.get(batch.channel), Batch(batch.channel, claims))


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    outbox.upgrade_schema()
    yield outbox
    outbox.close()


def one_pass(outbox: Outbox, texts: Sequence[str]) -> None:
    with outbox.store.engine.begin() as connection:
        outbox.enqueue_many(connection, [NewMessage(channel="chat", payload=text, ordering_key="ada") for text in texts])
    relay = Relay(outbox.store, outbox.channels, OverTheWire(outbox), outbox.telemetry, outbox.owner)
    relay.run_once(budget_s=30)


def statuses(outbox: Outbox) -> list[str]:
    return [message.status for message in reversed(outbox.list(channel="chat"))]


def test_those_behind_a_delivered_one_are_delivered_in_the_same_task(outbox: Outbox) -> None:
    sent: list[object] = []

    @outbox.channel("chat", concurrency=4)
    def chat(message: Message, attempt: Attempt) -> None:
        sent.append(message.payload)

    one_pass(outbox, ["one", "two", "three", "four"])

    assert sent == ["one", "two", "three", "four"]
    assert statuses(outbox) == [Status.DELIVERED] * 4


def test_those_behind_a_failed_one_are_released_and_not_left_to_the_horizon(outbox: Outbox) -> None:
    @outbox.channel("chat", concurrency=4)
    def chat(message: Message, attempt: Attempt) -> None:
        if message.payload == "two":
            raise RetryLater("not now", after=3600)

    one_pass(outbox, ["one", "two", "three", "four"])

    assert statuses(outbox) == [Status.DELIVERED, Status.FAILED_RETRYABLE, Status.QUEUED, Status.QUEUED]
