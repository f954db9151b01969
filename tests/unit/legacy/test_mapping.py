"""What an entry of the old queue becomes: one row for each part, with the history it had."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox import Backoff, Channel, codec
from outbox.channels.base import ExpireAction, FunctionChannel
from outbox.channels.registry import ChannelRegistry
from outbox.channels.telegram import Telegram
from outbox.errors import InvalidMessage
from outbox.legacy.directory import Place
from outbox.legacy.entry import EntryRefused, parse
from outbox.legacy.mapping import DEFAULT_TTL_MS, Mapper, Moment
from outbox.lifecycle import Status
from outbox.message import INHERITS_REPLY_TO, NewMessage
from outbox.preparing import Preparer
from outbox.store.records import History, ImportedEntry

ID = "6f0c2b1e-9b7d-4a55-8a2e-2f7f3c1d9e40"
NOW = 1_800_000_000_000
SECOND = 1_000
HOUR = 3_600 * SECOND


def test_R1_each_part_of_a_reply_is_a_message_of_one_turn_and_one_ordering_key():
    messages = imported(payloads=[{"text": "one"}, {"text": "two"}, {"text": "three"}]).messages
    assert [codec.decode(message.payload)["text"] for message in messages] == ["one", "two", "three"]
    assert {message.turn_id for message in messages} == {ID}
    assert {message.ordering_key for message in messages} == {"|-100"}
    assert [message.idempotency_key for message in messages] == [f"legacy:{ID}:{index}#1" for index in range(3)]
    assert len({message.id for message in messages}) == 3


def test_R2_a_payload_says_in_the_words_of_the_chat_channels_what_the_entry_said():
    part = {
        "text": "", "mediaUrl": "https://a.example/1.png", "mediaUrls": ["https://a.example/1.png", "https://a.example/2.png"],
        "channelData": {"ts": "1782584644.377229", "phone": "+1555", "n": 1.5}, "replyToId": "4711",
    }  # fmt: skip
    assert payloads(payloads=[part, {"text": "b", "mediaUrl": None}], threadId=42, silent=False) == [
        {
            "text": "",
            "media": [{"url": "https://a.example/1.png"}, {"url": "https://a.example/2.png"}],
            "extra": {"ts": "1782584644.377229", "phone": "+1555", "n": 1.5},
            "reply_to": "4711",
            "silent": False,
            "thread_id": 42,
        },
        {"text": "b", "silent": False, "thread_id": 42},
    ]


@pytest.mark.parametrize("thread", [42, "42", "1782584644.377229"])
def test_R2_a_thread_keeps_its_type(thread: object):
    assert typed(payloads(threadId=thread)) == typed([{"text": "hi", "thread_id": thread}])


def test_R2_what_has_no_counterpart_and_all_that_was_absent_null_or_empty_is_kept_as_it_was():
    options = {
        "accountId": None, "threadId": "", "replyToId": None, "bestEffort": True, "gifPlayback": None, "silent": False,
        "mirror": {"sessionKey": "s", "mediaUrls": []}, "voice": {"rate": 1.5, "tags": ["", None, 0, "0"]},
    }  # fmt: skip
    parts = [
        {"text": "a", "mediaUrl": "", "mediaUrls": [], "replyToId": None, "x": 1},
        {"text": None, "channelData": {"y": True}},
    ]
    first, second = (codec.decode(message.headers) for message in imported(payloads=parts, **options).messages)
    assert typed(first) == typed(
        {"legacy": {"options": options, "payload": {"mediaUrl": "", "mediaUrls": [], "replyToId": None, "x": 1}}}
    )
    assert typed(second) == typed({"legacy": {"options": options, "payload": {"text": None, "channelData": {"y": True}}}})


def test_what_was_absent_stays_absent():
    assert payloads(payloads=[{"text": "a"}]) == [{"text": "a"}]


def test_T4_parts_that_say_nothing_are_no_messages():
    said = [
        {"text": "a"},
        {"text": ""},
        {},
        {"mediaUrls": [""]},
        {"channelData": {}},
        {"text": None, "mediaUrl": "https://a.example/1"},
    ]
    assert payloads(payloads=said) == [{"text": "a"}, {"media": [{"url": "https://a.example/1"}]}]
    with pytest.raises(EntryRefused, match="none of its payloads says anything"):
        imported(payloads=[{"text": ""}, {}])


def test_a_text_above_the_channels_limit_becomes_several_messages():
    terse = FunctionChannel("telegram", send)
    terse.text_limit = 6
    messages = imported(mapper(terse), payloads=[{"text": "hello world"}, {"text": "bye"}]).messages
    assert [codec.decode(message.payload)["text"] for message in messages] == ["hello", "world", "bye"]
    assert [message.idempotency_key for message in messages] == [f"legacy:{ID}:{piece}" for piece in ("0#1", "0#2", "1#1")]


@pytest.mark.proves("T38")
@pytest.mark.parametrize(
    ("parts", "resolved"),
    [
        ([{}, {}], [("9", True), ("9", True)]),
        ([{"replyToId": "7"}, {}], [("7", False), ("9", True)]),
        ([{"replyToId": None}, {}], [(..., False), ("9", True)]),
        ([{"replyToId": ""}, {}], [(..., False), ("9", True)]),
        ([{"text": ""}, {}], [("9", True)]),
        ([{"replyToId": "7"}, {"replyToId": 8}], [("7", False), (8, False)]),
    ],
)
def test_T38_a_part_keeps_its_reply_to_and_the_entrys_is_for_the_first_other_one_delivered(
    parts: list[Any], resolved: list[Any]
):
    messages = imported(payloads=[{"text": "hi", **part} for part in parts], replyToId="9").messages
    assert resolved == [
        (codec.decode(message.payload).get("reply_to", ...), INHERITS_REPLY_TO in codec.decode(message.headers))
        for message in messages
    ]


@pytest.mark.proves("T38")
@pytest.mark.parametrize("inherited", [None, "", ...])
def test_T38_without_a_reply_to_of_the_entry_nothing_is_inherited(inherited: object):
    assert payloads(payloads=[{"text": "a"}], replyToId=inherited) == [{"text": "a"}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"threadId": True}, "its threadId is a bool"),
        ({"threadId": {}}, "its threadId is a dict"),
        ({"threadId": 4.5}, "its threadId is a float"),
        ({"replyToId": []}, "its replyToId is a list"),
        ({"silent": "yes"}, "its silent is a str"),
        ({"payloads": [{"text": 7}]}, "its text is a int"),
        ({"payloads": [{"mediaUrl": {}}]}, "its mediaUrl is a dict"),
        ({"payloads": [{"mediaUrls": "https://a.example"}]}, "its mediaUrls is a str"),
        ({"payloads": [{"mediaUrls": [None]}]}, "one of its mediaUrls is not text"),
        ({"payloads": [{"channelData": ["x"]}]}, "its channelData is a list"),
        ({"payloads": [{"text": "a", "silent": 1}]}, "its silent is a int"),
    ],
)
@pytest.mark.parametrize("place", [Place.PENDING, Place.DEAD])
def test_values_that_mean_nothing_are_refused(change: dict[str, Any], reason: str, place: Place):
    with pytest.raises(EntryRefused, match=reason):
        imported(place=place, **change)


def test_a_part_that_is_silent_by_itself_beats_the_entry():
    assert payloads(payloads=[{"text": "a", "silent": True}, {"text": "b"}], silent=False) == [
        {"text": "a", "silent": True},
        {"text": "b", "silent": False},
    ]


@pytest.mark.parametrize(("thread", "label"), [(42, "42"), ("42", "'42'"), (42.0, "42")])
def test_T40_a_thread_is_a_conversation_of_its_own(thread: object, label: str):
    (message,) = imported(threadId=thread).messages
    assert message.ordering_key == f"|-100|{label}"


def test_T40_the_order_is_that_of_the_channels_new_messages():
    telegram = Telegram(token="123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    new = NewMessage(channel="telegram", target="-100", payload={"text": "new", "thread_id": 42})
    (message,) = imported(mapper(telegram), threadId=42).messages
    assert message.ordering_key == telegram.ordering_key_for(new)
    (unknown,) = imported(threadId=42).messages
    assert unknown.ordering_key == telegram.ordering_key_for(new), "also where the channel is not known"


def test_the_documented_example_can_be_sent_by_the_telegram_channel():
    telegram = Telegram(token="123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    messages = imported(
        mapper(telegram),
        payloads=[
            {"text": "Nightly report: 3 jobs failed.", "replyToId": "4711"},
            {"text": "", "mediaUrl": "https://example.com/chart.png"},
        ],
        threadId=42, replyToId=None, bestEffort=True, silent=False, mirror={"sessionKey": "s"},
    ).messages  # fmt: skip
    assert [codec.decode(message.payload) for message in messages] == [
        {"text": "Nightly report: 3 jobs failed.", "reply_to": "4711", "silent": False, "thread_id": 42},
        {"text": "", "media": [{"url": "https://example.com/chart.png"}], "silent": False, "thread_id": 42},
    ]


def test_an_account_of_its_own_is_kept():
    assert {message.account_id for message in imported(accountId="support").messages} == {"support"}


def test_an_entry_that_was_never_tried_is_queued_since_it_was_enqueued():
    assert history(enqueuedAt=NOW - 5_000, retryCount=0) == History(
        status=Status.QUEUED,
        queued_at=NOW - 5_000,
        attempt_count=0,
        next_attempt_at=NOW - 5_000,
        expires_at=NOW - 5_000 + DEFAULT_TTL_MS,
        last_attempt_at=None,
        last_error=None,
        error_class=None,
        terminal_reason=None,
        completed_at=None,
    )


@pytest.mark.proves("T22")
@pytest.mark.parametrize(("retries", "pause_s"), [(1, 5), (2, 25), (3, 120), (4, 600)])
def test_T22_the_pause_counts_from_the_last_attempt(retries: int, pause_s: int):
    tried = history(retryCount=retries, enqueuedAt=NOW - 60_000, lastAttemptAt=NOW - 4_000, lastError="ETIMEDOUT")
    assert tried.status is Status.FAILED_RETRYABLE
    assert (tried.attempt_count, tried.last_attempt_at, tried.last_error) == (retries, NOW - 4_000, "ETIMEDOUT")
    assert tried.error_class == "transient"
    assert 0 <= tried.next_attempt_at - (NOW - 4_000) - pause_s * SECOND <= pause_s * SECOND * 0.1


def test_T22_an_older_file_without_the_time_of_its_attempt_counts_from_its_enqueue():
    tried = history(retryCount=2, enqueuedAt=NOW - 60_000)
    assert tried.last_attempt_at is None
    assert 25_000 <= tried.next_attempt_at - (NOW - 60_000) <= 27_500


def test_T22_the_channels_own_backoff_is_used_where_it_is_known():
    steady = mapper(FunctionChannel("telegram", send, backoff=Backoff((7.0,), jitter=0)))
    tried = history(steady, retryCount=3, lastAttemptAt=NOW - 1_000)
    assert tried.next_attempt_at == NOW - 1_000 + 7_000


def test_T22_a_time_in_the_future_delays_nothing():
    tried = history(retryCount=1, enqueuedAt=NOW - 2_000, lastAttemptAt=NOW + HOUR)
    assert tried.last_attempt_at is None
    assert tried.next_attempt_at <= NOW - 2_000 + 5_500


@pytest.mark.proves("T19")
@pytest.mark.parametrize(("age_ms", "status"), [(DEFAULT_TTL_MS, Status.QUEUED), (DEFAULT_TTL_MS + 1, Status.EXPIRED)])
def test_T19_exactly_at_its_age_an_entry_is_sent_and_a_millisecond_later_it_is_expired(age_ms: int, status: Status):
    assert history(enqueuedAt=NOW - age_ms).status is status


def test_T19_an_expired_entry_keeps_its_history_and_is_over_now():
    old = history(enqueuedAt=NOW - HOUR, retryCount=2, lastAttemptAt=NOW - HOUR + 9, lastError="ETIMEDOUT")
    assert (old.status, old.error_class, old.terminal_reason) == (Status.EXPIRED, "expired", "older than its TTL")
    assert (old.attempt_count, old.last_attempt_at, old.last_error) == (2, NOW - HOUR + 9, "ETIMEDOUT")
    assert (old.queued_at, old.expires_at, old.completed_at) == (NOW - HOUR, NOW - HOUR + DEFAULT_TTL_MS, NOW)


@pytest.mark.parametrize(
    ("policy", "ttl_ms", "expected"),
    [
        ({}, None, DEFAULT_TTL_MS),
        ({"ttl": 60.0}, None, 60_000),
        ({"ttl": 60.0}, 7_000, 7_000),
        ({"ttl": 60.0, "expire_action": ExpireAction.DELIVER}, None, None),
        ({"expire_action": ExpireAction.DELIVER}, 7_000, 7_000),
    ],
)
def test_the_ttl_is_the_importers_or_the_channels_or_that_of_the_old_queue(
    policy: dict[str, Any], ttl_ms: int | None, expected: int | None
):
    kept = history(mapper(FunctionChannel("telegram", send, **policy), ttl_ms=ttl_ms), enqueuedAt=NOW)
    assert kept.expires_at == (None if expected is None else NOW + expected)


@pytest.mark.proves("T20")
@pytest.mark.parametrize("claimed", [..., None, float("nan"), -1, 0, 1772182496, NOW + 1, NOW * 1_000, 1e300, 10**400])
def test_T20_an_entry_without_a_credible_time_is_as_old_as_its_file(claimed: object):
    assert history(enqueuedAt=claimed, modified_ms=NOW - 7_000).queued_at == NOW - 7_000
    assert history(enqueuedAt=claimed, modified_ms=NOW - HOUR).status is Status.EXPIRED


def test_T20_a_file_from_the_future_is_from_now():
    assert history(enqueuedAt=..., modified_ms=NOW + HOUR).queued_at == NOW


@pytest.mark.parametrize("retries", [5, 6, 1_350, 1e300])
def test_T20_an_entry_whose_attempts_are_used_up_is_a_dead_letter(retries: object):
    dead = history(retryCount=retries, lastError="ETIMEDOUT")
    assert (dead.status, dead.terminal_reason) == (Status.FAILED_TERMINAL, "attempts used up")
    assert (dead.error_class, dead.completed_at) == ("transient", NOW)


def test_the_channels_own_number_of_attempts_is_used_where_it_is_known():
    patient = mapper(FunctionChannel("telegram", send, max_attempts=9))
    assert history(patient, retryCount=8).status is Status.FAILED_RETRYABLE
    assert [message.max_attempts for message in imported(patient).messages] == [9]
    assert [message.max_attempts for message in imported().messages] == [5]


@pytest.mark.parametrize(
    ("error", "error_class"), [("Bad Request: chat not found", "permanent"), ("ETIMEDOUT", "transient"), (..., None)]
)
def test_T21_what_lies_in_failed_is_a_dead_letter_however_old(error: object, error_class: str | None):
    dead = history(place=Place.DEAD, enqueuedAt=NOW - 999 * HOUR, retryCount=5, lastError=error)
    assert (dead.status, dead.terminal_reason) == (Status.FAILED_TERMINAL, "a dead letter of the old queue")
    assert (dead.error_class, dead.attempt_count) == (error_class, 5)
    assert dead.completed_at == NOW, "retention begins at the import, or it would be pruned at once"


def test_a_live_entry_is_checked_against_its_channel():
    class TextOnly(FunctionChannel):
        def check_message(self, message: NewMessage) -> None:
            if "media" in message.payload:
                raise InvalidMessage("this channel sends no media")

    only_text = mapper(TextOnly("telegram", send))
    with pytest.raises(EntryRefused, match="this channel sends no media"):
        imported(only_text, payloads=[{"text": "a"}, {"mediaUrl": "https://a.example/1.png"}])
    assert imported(only_text, place=Place.DEAD, payloads=[{"mediaUrl": "https://a.example/1.png"}]).messages


def test_a_live_entry_of_a_channel_that_is_not_registered_is_refused_where_channels_are():
    telegram = mapper(FunctionChannel("telegram", send))
    with pytest.raises(EntryRefused, match="no channel 'signal' is registered"):
        imported(telegram, channel="signal")
    assert imported(telegram, channel="signal", enqueuedAt=NOW - HOUR).messages, "what is only kept needs no channel"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payloads": [{"channelData": {"x": float("nan")}}]}, "nan, which JSON cannot hold"),
        ({"mirror": float("inf")}, "inf, which JSON cannot hold"),
        ({"payloads": [{"text": "a", "$outbox": ["UUID", "x"]}]}, "reserved"),
        ({"payloads": [{"channelData": {"x": json.loads("[" * 200 + "]" * 200)}}]}, "nested deeper than 100 levels"),
        ({"payloads": [{"text": "x" * 300_000}]}, "the limit is 262144"),
        ({"to": "a\0b"}, "target holds a character that no database can store"),
        ({"channel": "x" * 64}, "channel takes 64 bytes"),
    ],
)
@pytest.mark.parametrize("place", [Place.PENDING, Place.DEAD])
def test_an_entry_that_cannot_be_stored_exactly_is_refused(change: dict[str, Any], reason: str, place: Place):
    with pytest.raises(EntryRefused, match=reason):
        imported(place=place, **change)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


KEYS = ("enqueuedAt", "retryCount", "lastAttemptAt", "lastError", "threadId", "replyToId", "mirror")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, json_values)))
def test_T20_whatever_the_times_and_counts_are_every_row_can_be_looked_at_again(change: dict[str, Any]):
    try:
        known = history(modified_ms=NOW - 1_000, **change)
    except EntryRefused:
        return
    assert 0 <= known.attempt_count < 2**31
    assert known.queued_at <= NOW
    assert known.next_attempt_at <= NOW + 660_000
    assert (known.completed_at is None) == (known.status in (Status.QUEUED, Status.FAILED_RETRYABLE))


def send(message: Any, attempt: Any) -> None: ...


def mapper(*channels: Channel, ttl_ms: int | None = None) -> Mapper:
    registry = ChannelRegistry()
    for channel in channels:
        registry.register(channel)
    return Mapper(Preparer(registry), ttl_ms)


def imported(using: Mapper | None = None, place: Place = Place.PENDING, modified_ms: int = NOW, **change: Any) -> ImportedEntry:
    document = {
        "id": ID, "enqueuedAt": NOW - 1_000, "channel": "telegram", "to": "-100", "accountId": "default",
        "payloads": [{"text": "hi"}], "retryCount": 0, **change,
    }  # fmt: skip
    content = json.dumps({key: value for key, value in document.items() if value is not ...}).encode()
    return (using or mapper()).map(parse(content, ID), place, Moment(NOW, modified_ms), "digest")


def history(using: Mapper | None = None, **change: Any) -> History:
    known = imported(using, **change).history
    assert known is not None
    return known


def payloads(**change: Any) -> list[Any]:
    return [codec.decode(message.payload) for message in imported(**change).messages]


def typed(value: Any) -> str:
    """Equal only for values of equal types: 42 is not "42", 1 is not true, and keys count in no order."""
    return json.dumps(value, sort_keys=True)
