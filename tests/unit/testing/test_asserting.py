"""`assert_enqueued` and its like: what they accept, and what a failure tells whoever has to mend the test."""

from collections.abc import Iterator
from typing import Any

import pytest

from outbox import NewMessage, Outbox
from outbox.testing import assert_enqueued, assert_nothing_enqueued, enqueued, sqlite_in_memory

TOLD = {"text": "On its way", "order": 7}


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with sqlite_in_memory(with_schema=True) as url:
        outbox = Outbox(url)
        yield outbox
        outbox.close()


def enqueue(outbox: Outbox, channel: str = "chat", **fields: Any) -> None:
    with outbox.store.transaction() as tx:
        outbox.enqueue_many(tx.connection, [NewMessage(channel=channel, **{"target": "42", "payload": TOLD, **fields})])


def failure(outbox: Outbox, *arguments: Any, **wanted: Any) -> str:
    with pytest.raises(AssertionError) as raised:
        assert_enqueued(outbox, *arguments, **wanted)
    return str(raised.value)


def test_the_one_message_that_is_as_wanted_is_returned(outbox: Outbox) -> None:
    enqueue(outbox, target="41")
    enqueue(outbox, turn_id="turn-1", headers={"trace": "x"})

    message = assert_enqueued(outbox, "chat", target="42", payload=TOLD, turn_id="turn-1", headers={"trace": "x"})

    assert (message.target, message.payload) == ("42", TOLD)


def test_what_is_wanted_may_decide_itself_what_it_equals(outbox: Outbox) -> None:
    enqueue(outbox, payload={"price": 0.1 + 0.2})

    assert_enqueued(outbox, "chat", payload=pytest.approx({"price": 0.3}))


def test_what_was_rolled_back_was_not_enqueued(outbox: Outbox) -> None:
    with outbox.store.engine.connect() as connection:
        outbox.enqueue(connection, "chat", payload=TOLD)
        connection.rollback()

    assert_nothing_enqueued(outbox)
    assert "was the transaction committed?" in failure(outbox, "chat")


def test_a_failure_shows_the_closest_message_and_what_differs_in_it(outbox: Outbox) -> None:
    enqueue(outbox, target="41", payload={"text": "Something else"})
    enqueue(outbox, payload={"text": "On the way", "order": 7})

    told = failure(outbox, "chat", target="42", payload=TOLD)

    assert "nobody enqueued a message of channel 'chat', target='42'" in told
    assert "the closest of 2 messages of that channel:" in told
    assert "#2 chat → 42, queued" in told
    assert "  payload (- wanted, + enqueued):" in told
    assert "    - {'order': 7, 'text': 'On its way'}" in told
    assert "    + {'order': 7, 'text': 'On the way'}" in told
    assert "target (" not in told


def test_a_failure_tells_what_else_there_is_where_the_channel_has_nothing(outbox: Outbox) -> None:
    enqueue(outbox, "email", target="ada@example.com")

    told = failure(outbox, "chat")

    assert "nor anything else of that channel" in told
    assert "#1 email → ada@example.com" in told


def test_a_message_enqueued_twice_is_not_the_one_that_was_wanted(outbox: Outbox) -> None:
    enqueue(outbox)
    enqueue(outbox)

    told = failure(outbox, "chat", target="42")

    assert "2 messages instead of one" in told
    assert ("#1" in told, "#2" in told) == (True, True)


def test_a_column_that_does_not_exist_is_no_reason_to_find_nothing(outbox: Outbox) -> None:
    with pytest.raises(TypeError, match="no column 'traget'; did you mean 'target'"):
        enqueued(outbox, traget="42")


def test_messages_are_listed_in_the_order_of_their_enqueue(outbox: Outbox) -> None:
    for target in "abc":
        enqueue(outbox, target=target)
    enqueue(outbox, "email", target="d")

    assert [message.target for message in enqueued(outbox, "chat")] == ["a", "b", "c"]
    assert [message.target for message in enqueued(outbox)] == ["a", "b", "c", "d"]


def test_nothing_is_to_be_enqueued_and_something_was(outbox: Outbox) -> None:
    enqueue(outbox)

    assert_nothing_enqueued(outbox, "email")
    assert_nothing_enqueued(outbox, "chat", target="41")
    with pytest.raises(AssertionError, match="1 message enqueued, and none was to be:\n  #1 chat → 42"):
        assert_nothing_enqueued(outbox, "chat")
