"""What an application may hand over to enqueue, and what is refused at the door, before anything is written."""

import dataclasses
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from outbox import NewMessage
from outbox.channels.base import Channel, ExpireAction
from outbox.channels.registry import ChannelRegistry
from outbox.errors import ConfigurationError, InvalidMessage, PayloadTooLarge, UnknownChannel, UnserializablePayload
from outbox.policy.texts import LONGEST_TEXTS
from outbox.preparing import Preparer
from outbox.store.records import NewRow


class Chat(Channel):
    name = "chat"

    def send_final(self, message: Any, attempt: Any) -> None: ...


class Live(Chat):
    """Its answers only make sense while the other side waits for them."""

    name = "live"

    def check_message(self, message: NewMessage) -> None:
        raise InvalidMessage("an answer to an interaction cannot wait: send it where you are")


def registry(*channels: Channel) -> ChannelRegistry:
    known = ChannelRegistry()
    for channel in channels:
        known.register(channel)
    return known


def prepare(*channels: Channel, limit: int = 10_000, **fields: Any) -> NewRow:
    fields = {"channel": "chat", "target": "room", **fields}
    (row,) = Preparer(registry(*channels), limit).rows([NewMessage(**fields)])
    return row


def test_a_message_becomes_a_row_with_a_time_ordered_id() -> None:
    first, second = prepare(Chat()), prepare(Chat())
    assert UUID(first.id).version == 7
    assert first.id < second.id
    assert (first.channel, first.target, first.account_id, first.dispatch_kind) == ("chat", "room", "", "final")
    assert (first.delay_ms, first.due_at, first.priority, first.payload, first.headers) == (0, None, 0, None, None)


def test_a_channel_that_is_known_here_gives_its_defaults() -> None:
    row = prepare(Chat(max_attempts=3, ttl=1.5, ordered=True), account_id="acme")
    assert (row.max_attempts, row.ttl_ms, row.ordering_key, row.stamped) == (3, 1500, "acme|room", True)


def test_what_the_message_says_beats_the_channels_defaults() -> None:
    row = prepare(Chat(max_attempts=3, ttl=1.5, ordered=True), max_attempts=7, expires_in=9, ordering_key="k")
    assert (row.max_attempts, row.ttl_ms, row.ordering_key) == (7, 9000, "k")


@pytest.mark.proves("R6")
def test_r6_a_channel_that_delivers_late_rather_than_never_has_no_ttl() -> None:
    assert prepare(Chat(ttl=1.5, expire_action=ExpireAction.DELIVER)).ttl_ms is None


def test_an_application_that_knows_no_channels_leaves_the_defaults_to_the_relay() -> None:
    row = prepare(channel="whatever", target="")
    assert (row.max_attempts, row.ttl_ms, row.ordering_key, row.stamped) == (None, None, None, False)


def test_an_unknown_channel_is_refused_where_the_channels_are_known() -> None:
    with pytest.raises(UnknownChannel, match=r"no channel 'chats' is registered; did you mean 'chat'\? \(registered: chat\)"):
        prepare(Chat(), channel="chats")


def test_a_channel_that_needs_a_target_refuses_an_empty_one() -> None:
    with pytest.raises(InvalidMessage, match="channel 'chat' needs a target"):
        prepare(Chat(), target="")
    assert prepare(Chat(target_required=False), target="").target == ""


@pytest.mark.proves("R20", "T33")
def test_r20_a_channel_can_say_that_its_answers_do_not_wait() -> None:
    with pytest.raises(InvalidMessage, match="cannot wait"):
        prepare(Live(), channel="live")


@pytest.mark.parametrize(
    ("given", "delay_ms"),
    [(0, 0), (-0.0, 0), (1, 1000), (0.25, 250), (timedelta(minutes=2), 120_000), (timedelta(days=3650), 315_360_000_000)],
)
def test_a_delay_is_a_number_of_seconds_or_a_timedelta(given: Any, delay_ms: int) -> None:
    assert prepare(delay=given).delay_ms == delay_ms


TIMES_THAT_ARE_NONE = [
    -1, -0.001, float("nan"), float("inf"), -float("inf"), 10**400, 1e300, timedelta(seconds=-1), timedelta(days=36500),
    True, "5", Decimal(5), date(2026, 1, 1),
]  # fmt: skip


@pytest.mark.parametrize("given", TIMES_THAT_ARE_NONE, ids=repr)
def test_an_absurd_delay_is_refused(given: Any) -> None:
    with pytest.raises(InvalidMessage, match="delay must be a number of seconds of 0 or more"):
        prepare(delay=given)


@pytest.mark.proves("R6")
@pytest.mark.parametrize("given", [*TIMES_THAT_ARE_NONE, 0, 0.0, timedelta(0)], ids=repr)
def test_r6_a_ttl_that_is_no_finite_time_above_0_is_refused(given: Any) -> None:
    with pytest.raises(InvalidMessage, match="expires_in must be a number of seconds above 0"):
        prepare(expires_in=given)


def test_the_shortest_ttl_is_a_millisecond() -> None:
    assert prepare(expires_in=1e-9).ttl_ms == 1


def test_a_due_time_is_a_moment_with_a_time_zone() -> None:
    moment = datetime(2026, 11, 23, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    assert prepare(due_at=moment).due_at == round(moment.timestamp() * 1000)


class Nowhere(tzinfo):
    def utcoffset(self, moment: datetime | None) -> None:
        return None

    def __repr__(self) -> str:
        return "Nowhere()"


@pytest.mark.parametrize(
    "given",
    [
        datetime(2026, 11, 23), datetime(2026, 11, 23, tzinfo=Nowhere()), date(2026, 11, 23), time(9, tzinfo=UTC),  # noqa: DTZ001
        "2026-11-23T09:00:00Z", 1_800_000_000,
    ],
    ids=repr,
)  # fmt: skip
def test_a_due_time_that_names_no_moment_is_refused(given: Any) -> None:
    with pytest.raises(InvalidMessage, match="due_at must be a datetime with a time zone"):
        prepare(due_at=given)


@pytest.mark.parametrize("year", [1, 1969, 1999, 2201, 9999])
def test_a_due_time_in_another_age_is_refused(year: int) -> None:
    with pytest.raises(InvalidMessage, match="no time at which anything will be sent"):
        prepare(due_at=datetime(year, 6, 1, tzinfo=UTC))


@pytest.mark.parametrize("delay", [0, 5])
def test_a_message_takes_either_a_delay_or_a_due_time(delay: int) -> None:
    with pytest.raises(InvalidMessage, match="either delay or due_at"):
        prepare(delay=delay, due_at=datetime(2026, 11, 23, tzinfo=UTC))


@pytest.mark.parametrize("given", [-101, 101, 10**30, 1.0, True, "1", None], ids=repr)
def test_a_priority_that_is_no_whole_number_in_range_is_refused(given: Any) -> None:
    with pytest.raises(InvalidMessage, match="priority must be a whole number from -100 to 100"):
        prepare(priority=given)


@pytest.mark.parametrize("given", [0, -1, 1001, 5.0, True, "5"], ids=repr)
def test_a_number_of_attempts_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(InvalidMessage, match="max_attempts must be a whole number from 1 to 1000"):
        prepare(max_attempts=given)


@pytest.mark.parametrize(("given", "kind"), [("final", "final"), ("block", "block"), ("tool", "tool"), (None, None)])
def test_a_dispatch_kind_is_one_of_three_or_absent(given: str | None, kind: str | None) -> None:
    assert prepare(dispatch_kind=given).dispatch_kind == kind


@pytest.mark.parametrize("given", ["", "Final", "draft", 1, ["final"]], ids=repr)
def test_any_other_dispatch_kind_is_refused(given: Any) -> None:
    with pytest.raises(InvalidMessage, match="dispatch_kind must be 'final', 'block' or 'tool'"):
        prepare(dispatch_kind=given)


@pytest.mark.parametrize("name", LONGEST_TEXTS)
@pytest.mark.parametrize("given", [5, b"x", ["x"], UUID(int=1)], ids=repr)
def test_a_text_column_takes_nothing_but_text(name: str, given: Any) -> None:
    with pytest.raises(InvalidMessage, match=rf"{name} must be text, not {type(given).__name__}"):
        prepare(**{name: given})


@pytest.mark.parametrize("name", LONGEST_TEXTS)
@pytest.mark.parametrize("given", ["a\0b", "a\ud800b", "\udfff"], ids=["NUL", "high", "low"])
def test_a_text_that_no_database_can_store_is_refused(name: str, given: str) -> None:
    with pytest.raises(InvalidMessage, match=f"{name} holds a character that no database can store"):
        prepare(**{name: given})


@pytest.mark.parametrize("name", LONGEST_TEXTS)
def test_a_text_is_refused_above_its_limit_in_bytes(name: str) -> None:
    limit = LONGEST_TEXTS[name]
    assert getattr(prepare(**{name: "x" * limit}), name) == "x" * limit
    with pytest.raises(InvalidMessage, match=f"{name} takes {limit + 1} bytes; the limit is {limit}"):
        prepare(**{name: "x" * (limit + 1)})
    with pytest.raises(InvalidMessage, match=f"{name} takes"):
        prepare(**{name: "€" * (limit // 2)})


@pytest.mark.parametrize("name", ["channel", "idempotency_key", "ordering_key"])
def test_a_name_or_key_is_never_empty(name: str) -> None:
    with pytest.raises(InvalidMessage, match=f"{name} is empty"):
        prepare(**{name: ""})


@pytest.mark.parametrize("name", ["channel", "account_id", "target"])
def test_a_column_that_has_no_null_refuses_none(name: str) -> None:
    with pytest.raises(InvalidMessage, match=f"{name} must be text, not NoneType"):
        prepare(**{name: None})


def test_r2_absent_and_empty_stay_apart() -> None:
    assert prepare(turn_id=None).turn_id is None
    assert prepare(turn_id="").turn_id == ""
    assert prepare(payload="").payload == '""'


@pytest.mark.parametrize("key", [7, "a\0b", "", "k" * 3000], ids=["number", "NUL", "empty", "long"])
def test_an_adapters_own_ordering_key_is_checked_too(key: Any) -> None:
    class Odd(Chat):
        def ordering_key_for(self, message: Any) -> Any:
            return key

    with pytest.raises(InvalidMessage, match="ordering_key"):
        prepare(Odd())


@pytest.mark.parametrize("given", [["a"], "a", 5, [("a", 1)]], ids=repr)
def test_headers_are_a_dictionary(given: Any) -> None:
    with pytest.raises(InvalidMessage, match="headers must be a dictionary"):
        prepare(headers=given)


def test_empty_headers_are_no_headers() -> None:
    assert prepare(headers={}).headers is None


@pytest.mark.proves("R2")
@pytest.mark.parametrize("column", ["payload", "headers"])
def test_r2_what_would_not_survive_the_round_trip_is_refused_with_its_path(column: str) -> None:
    with pytest.raises(UnserializablePayload, match=r"cannot be stored: \$\.a\[0\] is a builtins\.object"):
        prepare(**{column: {"a": [object()]}})


def test_payload_and_headers_together_have_a_limit_in_bytes() -> None:
    payload, headers = {"a": "ä"}, {"b": "c"}
    size = len('{"a":"\\u00e4"}') + len('{"b":"c"}')
    assert prepare(limit=size, payload=payload, headers=headers).headers == '{"b":"c"}'
    with pytest.raises(PayloadTooLarge, match=f"payload and headers take {size} bytes; the limit is {size - 1}"):
        prepare(limit=size - 1, payload=payload, headers=headers)


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, None], ids=repr)
def test_a_payload_limit_that_is_none_is_refused_at_the_start(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="payload_limit must be a whole number of bytes above 0"):
        Preparer(registry(), limit)


def test_one_message_that_is_refused_refuses_all() -> None:
    with pytest.raises(InvalidMessage, match="priority"):
        Preparer(registry()).rows([NewMessage(channel="chat"), NewMessage(channel="chat", priority=1000)])


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(InvalidMessage, match=r"is an outbox\.NewMessage, not a dict"):
        Preparer(registry()).rows([{"channel": "chat"}])  # type: ignore[list-item]


def test_a_refusal_tells_neither_payload_nor_target() -> None:
    secret = "s3cret" * 500
    for fields in ({"target": [secret]}, {"target": secret}, {"payload": {"a": secret}, "limit": 10}):
        with pytest.raises(InvalidMessage) as refused:
            prepare(**fields)  # type: ignore[arg-type]
        assert "s3cret" not in str(refused.value)


def test_every_field_of_a_message_reaches_the_row() -> None:
    kept = set(NewRow._fields)
    renamed = {"delay": "delay_ms", "expires_in": "ttl_ms"}
    assert {renamed.get(field.name, field.name) for field in dataclasses.fields(NewMessage)} <= kept
