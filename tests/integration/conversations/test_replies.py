"""A reply of several parts: rows of one turn, in order, of which the first delivered answers what the reply answers."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.orm import Session

from outbox import Attempt, Channel, Message, Outbox, PermanentFailure
from outbox.errors import InvalidMessage
from outbox.lifecycle import Status
from outbox.store.records import MessageFilter


class Chat(Channel):
    """Records what it sends; a text that says so cannot be delivered."""

    name = "chat"
    ordered = True
    text_limit = 20

    def __init__(self, **policy: Any) -> None:
        super().__init__(**policy)
        self.impossible = True
        self.sent: list[dict[str, Any]] = []

    def send_final(self, message: Message, attempt: Attempt) -> None:
        if self.impossible and "impossible" in message.payload.get("text", ""):
            raise PermanentFailure("chat not found")
        self.sent.append(message.payload)


@pytest.fixture(params=[1, 4], ids=["one at a time", "taken together"])
def chat(request: pytest.FixtureRequest) -> Chat:
    return Chat(concurrency=request.param, key_window=request.param)


@pytest.fixture
def outbox(database_url: str, chat: Chat) -> Iterator[Outbox]:
    outbox = Outbox(database_url, channels=[chat])
    outbox.upgrade_schema()
    yield outbox
    outbox.close()


def reply(outbox: Outbox, *parts: Any, **options: Any) -> list[Any]:
    with Session(outbox.store.engine) as session, session.begin():
        return outbox.enqueue_reply(session, "chat", target="42", parts=parts, **options)


@pytest.mark.proves("R1")
def test_each_part_is_a_row_of_one_turn_and_they_go_in_order(outbox: Outbox, chat: Chat) -> None:
    reply(outbox, "one", {"text": "two"}, "three", turn_id="turn-1")

    rows = outbox.list(turn_id="turn-1")
    assert len(rows) == 3
    assert len({row.ordering_key for row in rows}) == 1
    outbox.drain()
    assert [said["text"] for said in chat.sent] == ["one", "two", "three"]
    assert outbox.turn_status("turn-1") == "delivered"


@pytest.mark.proves("T38")
def test_the_replys_own_reference_is_used_once_by_the_first_part(outbox: Outbox, chat: Chat) -> None:
    reply(outbox, "one", "two", "three", reply_to="4711")

    outbox.drain()

    assert [said.get("reply_to") for said in chat.sent] == ["4711", None, None]


@pytest.mark.proves("T38")
def test_only_a_success_consumes_the_replys_own_reference(outbox: Outbox, chat: Chat) -> None:
    reply(outbox, "impossible", "two", "three", reply_to=4711)

    outbox.drain()

    assert [(said["text"], said.get("reply_to")) for said in chat.sent] == [("two", 4711), ("three", None)]


@pytest.mark.proves("T38")
def test_a_parts_own_reference_beats_the_replys_and_null_suppresses_it(outbox: Outbox, chat: Chat) -> None:
    reply(outbox, {"text": "own", "reply_to": "9"}, {"text": "none", "reply_to": None}, "inherits", reply_to="4711")

    outbox.drain()

    assert [said.get("reply_to") for said in chat.sent] == ["9", None, "4711"]
    assert "reply_to" not in chat.sent[1]


def test_text_above_the_channels_limit_is_cut_between_words_and_media_stays_with_the_first_piece(
    outbox: Outbox, chat: Chat
) -> None:
    reply(outbox, {"text": "a sentence that is too long for it", "media": ["https://example.com/a.png"]}, reply_to="1")

    outbox.drain()

    assert [said["text"] for said in chat.sent] == ["a sentence that is", "too long for it"]
    assert [("media" in said, said.get("reply_to")) for said in chat.sent] == [(True, "1"), (False, None)]


def test_the_thread_is_the_replys_unless_a_part_names_its_own(outbox: Outbox, chat: Chat) -> None:
    reply(outbox, "one", {"text": "two", "thread_id": "7"}, thread_id=42)

    outbox.drain()

    assert [said["thread_id"] for said in chat.sent] == [42, "7"]


@pytest.mark.proves("R14", "T29")
def test_the_same_reply_enqueued_from_two_places_is_one_set_of_rows(outbox: Outbox, chat: Chat) -> None:
    first = reply(outbox, "one", "two", idempotency_key="turn-9")
    second = reply(outbox, "one", "two", idempotency_key="turn-9")

    assert [queued.created for queued in (*first, *second)] == [True, True, False, False]
    assert [queued.id for queued in first] == [queued.id for queued in second]
    outbox.drain()
    assert len(chat.sent) == 2


@pytest.mark.parametrize("parts", [[], [""], [{"text": ""}], [42]])
def test_a_reply_that_says_nothing_is_refused_and_nothing_is_written(outbox: Outbox, parts: list[Any]) -> None:
    with pytest.raises(InvalidMessage):
        reply(outbox, *parts)

    assert outbox.list() == []


@pytest.mark.proves("T34")
def test_a_replayed_part_is_sent_as_it_was_stored(outbox: Outbox, chat: Chat) -> None:
    (queued,) = reply(outbox, "one", reply_to="4711")
    outbox.drain()
    assert outbox.get(queued.id).status == Status.DELIVERED

    outbox.retry(queued.id)
    outbox.drain()

    assert chat.sent == [{"text": "one", "reply_to": "4711"}] * 2


@pytest.mark.proves("R15", "T31", "T32")
def test_the_failure_of_one_part_is_on_record_and_that_part_alone_is_sent_again(outbox: Outbox, chat: Chat) -> None:
    parts = reply(outbox, "one", "impossible", "three", turn_id="turn-1")

    outbox.drain()

    assert [outbox.get(part.id).status for part in parts] == [Status.DELIVERED, Status.FAILED_TERMINAL, Status.DELIVERED]
    assert outbox.get(parts[1].id).last_error == "chat not found"
    assert outbox.turn_status("turn-1") == "failed"
    said = len(chat.sent)
    chat.impossible = False
    outbox.retry(where=MessageFilter(turn_id="turn-1", status=Status.FAILED_TERMINAL))
    outbox.drain()
    assert [each["text"] for each in chat.sent[said:]] == ["impossible"]
    assert outbox.turn_status("turn-1") == "delivered"
