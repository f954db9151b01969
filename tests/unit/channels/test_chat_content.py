"""What the chat channels refuse when it is enqueued, each by its service's limits."""

from typing import Any

import pytest

from outbox.channels.base import Channel
from outbox.channels.chat import ChatChannel
from outbox.channels.discord import Discord
from outbox.channels.slack import Slack
from outbox.channels.telegram import Telegram
from outbox.errors import InvalidMessage
from outbox.message import NewMessage
from tests.factories import message

TELEGRAM = Telegram(token="110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw")
SLACK = Slack(token="xoxb-17653672481-19874698323")
DISCORD = Discord(token="MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs-abcdefghij")
TARGETS = {"telegram": "-1001234567890", "slack": "C1H9RESGL", "discord": "290926798999357250"}
TS = "1782584644.377229"
PICTURE = "https://shop.example/chart.png"
CLIP = "https://shop.example/clip.mp4"


def new(channel: Channel, payload: Any, **fields: Any) -> NewMessage:
    return NewMessage(**{"channel": channel.name, "target": TARGETS[channel.name], "payload": payload, **fields})


def data(size: int, **fields: Any) -> dict[str, Any]:
    return {"data": b"x" * size, **fields}


ACCEPTED: list[tuple[Channel, Any]] = [
    *((channel, payload) for channel in (TELEGRAM, SLACK, DISCORD) for payload in (
        "hello", {"text": "hello"}, {"media": [PICTURE]}, {"text": "hello", "media": [data(1, name="a.png")], "silent": True},
        {"media": [data(1)] * 10},
    )),
    (TELEGRAM, "x" * 4096),
    (TELEGRAM, {"text": "<b>" * 5000, "extra": {"parse_mode": "HTML"}}),
    (TELEGRAM, {"text": "x" * 1024, "media": [PICTURE]}),
    (TELEGRAM, {"text": "x", "thread_id": 42, "reply_to": 1}),
    (TELEGRAM, {"media": [PICTURE, CLIP] * 5}),
    (TELEGRAM, {"media": ["https://shop.example/a.mp3", "https://shop.example/b.mp3"]}),
    (SLACK, "x" * 40_000),
    (SLACK, {"text": "x", "thread_id": TS, "reply_to": TS}),
    (SLACK, {"extra": {"blocks": [{"type": "divider"}] * 50, "attachments": [{"text": "x"}] * 100}}),
    (DISCORD, "x" * 2000),
    (DISCORD, {"text": "x", "thread_id": "1103999888777000111", "reply_to": "1103999888777000222"}),
    (DISCORD, {"extra": {"embeds": [{"title": "x" * 600}] * 10}}),
    (DISCORD, {"extra": {"poll": {"question": {"text": "?"}}}}),
    (DISCORD, {"text": "x", "extra": {"flags": 4}}),
]  # fmt: skip


@pytest.mark.parametrize(("channel", "payload"), ACCEPTED)
def test_what_a_service_can_express_is_accepted(channel: Channel, payload: Any) -> None:
    channel.check_message(new(channel, payload))


REFUSED: list[tuple[Channel, Any, str]] = [
    *((channel, payload, complaint) for channel in (TELEGRAM, SLACK, DISCORD) for payload, complaint in (
        ("  ", "there is n"),
        ({"text": ""}, "there is n"),
        ({"txt": "hello"}, "did you mean 'text'"),
        ({"text": "x", "media": ["ftp://shop.example/a"]}, "not an absolute http or https URL"),
        ({"text": "x", "media": ["https://shop.example/a b"]}, "not an absolute http or https URL"),
        ({"text": "x", "media": ["http://[::1"]}, "not an absolute http or https URL"),
        ({"text": "x", "media": [data(0)]}, "holds 0 bytes"),
        ({"text": "x", "media": [data(1, name='a"\r\nX: 1')]}, "the name of a media item"),
        ({"text": "x", "media": [data(1, name="")]}, "the name of a media item"),
        ({"text": "x", "media": [data(1, type="image/png\r\nX: 1")]}, "is not a media type"),
        ({"text": "x", "media": [data(1)] * 11}, "are more than the 10"),
    )),
    (TELEGRAM, "x" * 4097, "the text has 4097 characters; Telegram takes 4096"),
    (TELEGRAM, {"text": "x" * 1025, "media": [PICTURE]}, "the caption has 1025 characters"),
    (TELEGRAM, {"text": "x" * 1000, "media": [{"url": PICTURE, "caption": "y" * 30}]}, "the caption has 1032 characters"),
    (TELEGRAM, {"media": [PICTURE, {"url": CLIP, "caption": "y" * 1025}]}, "the caption has 1025 characters"),
    (TELEGRAM, {"text": "x", "thread_id": "42"}, "thread_id is '42', and must be a whole number"),
    (TELEGRAM, {"text": "x", "reply_to": "first"}, "reply_to is 'first'"),
    (TELEGRAM, {"text": "x", "thread_id": 0}, "thread_id is 0"),
    (TELEGRAM, {"text": "x", "reply_to": "0"}, "reply_to is 0"),
    (TELEGRAM, {"extra": {"reply_markup": {}}}, "neither text nor media"),
    (TELEGRAM, {"media": [data(10 * 1024 * 1024 + 1, type="image/png")]}, "it may hold 1 to 10485760"),
    (TELEGRAM, {"media": [PICTURE, "https://shop.example/a.pdf"]}, "not document with photo"),
    (TELEGRAM, {"media": ["https://shop.example/a.gif"] * 2}, "not animation"),
    (TELEGRAM, {"media": [PICTURE, CLIP], "extra": {"reply_markup": {}}}, "cannot have a reply_markup"),
    (TELEGRAM, {"text": "x", "extra": {"chat_id": 5}}, "extra may not hold 'chat_id'"),
    (TELEGRAM, {"text": "x", "extra": {"photo": "a"}}, "extra may not hold 'photo'"),
    (SLACK, "x" * 40_001, "the text has 40001 characters; Slack takes 40000"),
    (SLACK, {"text": "x", "thread_id": 1782584644}, "thread_id is 1782584644, and must be a message's ts as text"),
    (SLACK, {"text": "x", "reply_to": "1782584644"}, "reply_to is '1782584644'"),
    (SLACK, {"extra": {"blocks": [{"type": "divider"}] * 51}}, "51 blocks, media among them, are more than the 50"),
    (SLACK, {"media": [PICTURE], "extra": {"attachments": [{}] * 100}}, "101 attachments"),
    (SLACK, {"text": "x", "extra": {"blocks": "[]"}}, "the blocks in extra must be a list"),
    (SLACK, {"extra": {"unfurl_links": True}}, "there is nothing to show"),
    (SLACK, {"media": [PICTURE, data(1)]}, "enqueue two"),
    (SLACK, {"media": [data(1)], "extra": {"blocks": [{"type": "divider"}]}}, "takes no extra"),
    (SLACK, {"text": "x", "extra": {"thread_ts": TS}}, "extra may not hold 'thread_ts'"),
    (DISCORD, "x" * 2001, "has 2001 characters; Discord takes 2000"),
    (DISCORD, {"text": "x" * 1980, "media": [CLIP]}, "has 2010 characters"),
    (DISCORD, {"text": "x", "thread_id": 1103999888777000111}, "thread_id is 1103999888777000111, and must be an id"),
    (DISCORD, {"text": "x", "reply_to": "first"}, "reply_to is 'first'"),
    (DISCORD, {"media": [data(1, caption="y" * 1025)]}, "a caption has 1025 characters"),
    (DISCORD, {"media": [data(10 * 1024 * 1024 + 1)]}, "it may hold 1 to 10485760"),
    (DISCORD, {"media": [PICTURE] * 11}, "11 embeds, images by URL among them, are more than the 10"),
    (DISCORD, {"extra": {"embeds": {"title": "x"}}}, "must be a list of tables"),
    (DISCORD, {"extra": {"embeds": ["x"]}}, "must be a list of tables"),
    (DISCORD, {"extra": {"embeds": [{"title": "x" * 3001, "footer": {"text": "x" * 1000}, "author": {"name": "x" * 1000},
               "fields": [{"name": "x" * 500, "value": "x" * 500}]}]}}, "the embeds have 6001 characters"),
    (DISCORD, {"text": "x", "extra": {"flags": "4"}}, "the flags in extra must be a whole number"),
    (DISCORD, {"extra": {"allowed_mentions": {}}}, "there is nothing to show"),
    (DISCORD, {"text": "x", "extra": {"nonce": "1"}}, "extra may not hold 'nonce'"),
]  # fmt: skip


@pytest.mark.proves("T37")
@pytest.mark.parametrize(("channel", "payload", "complaint"), REFUSED)
def test_what_a_service_cannot_express_is_refused_with_the_channels_name(
    channel: Channel, payload: Any, complaint: str
) -> None:
    with pytest.raises(InvalidMessage, match=complaint) as refused:
        channel.check_message(new(channel, payload))
    assert f"channel '{channel.name}': " in str(refused.value)


@pytest.mark.parametrize(
    ("channel", "target", "accepted"),
    [
        (TELEGRAM, "42", True),
        (TELEGRAM, "@shop_news", True),
        (TELEGRAM, "shop_news", False),
        (TELEGRAM, "@x", False),
        (TELEGRAM, "42/../getMe", False),
        (SLACK, "U012AB3CD", True),
        (SLACK, "#support-größe", True),
        (SLACK, "support", False),
        (SLACK, "#Support", False),
        (DISCORD, "290926798999357250", True),
        (DISCORD, "general", False),
        (DISCORD, "290926798999357250/webhooks", False),
    ],
)
def test_a_target_must_be_one_of_the_service(channel: Channel, target: str, accepted: bool) -> None:
    if accepted:
        channel.check_message(new(channel, "hello", target=target))
    else:
        with pytest.raises(InvalidMessage, match="the target is not a"):
            channel.check_message(new(channel, "hello", target=target))


def test_files_go_to_a_conversation_of_slack_by_its_id_alone() -> None:
    for target in ("#general", "U012AB3CD"):
        with pytest.raises(InvalidMessage, match="to a conversation's id, not to a name or a user"):
            SLACK.check_message(new(SLACK, {"media": [data(1)]}, target=target))


@pytest.mark.proves("R20", "T33")
@pytest.mark.parametrize(
    ("channel", "fields"),
    [
        (TELEGRAM, {"payload": {"text": "x", "extra": {"callback_query_id": "1"}}}),
        (TELEGRAM, {"payload": {"text": "x", "extra": {"inline_message_id": "1"}}}),
        (SLACK, {"payload": {"text": "x", "extra": {"response_type": "ephemeral"}}}),
        (SLACK, {"payload": {"text": "x", "extra": {"user": "U012AB3CD"}}}),
        (SLACK, {"target": "https://hooks.slack.com/commands/T1/2/3"}),
        (DISCORD, {"payload": {"text": "x", "extra": {"interaction_token": "a"}}}),
        (DISCORD, {"payload": {"text": "x", "extra": {"flags": 64}}}),
        (DISCORD, {"target": "https://discord.com/api/webhooks/1/token"}),
    ],
)
def test_answers_that_only_make_sense_inside_a_live_interaction_are_refused(channel: Channel, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage, match="interaction") as refused:
        channel.check_message(new(channel, **{"payload": "hello", **fields}))
    assert "cannot be enqueued" in str(refused.value)


def test_an_account_that_is_not_configured_is_refused_when_the_message_is_enqueued() -> None:
    with pytest.raises(InvalidMessage, match=r"channel 'slack': no account 'acme' is configured \(configured: ''\)"):
        SLACK.check_message(new(SLACK, "hello", account_id="acme"))


@pytest.mark.proves("T40")
@pytest.mark.parametrize(
    ("channel", "threads"),
    [(TELEGRAM, (42, 43)), (SLACK, (TS, "1782584999.000001")), (DISCORD, ("1103999888777000111", "1103999888777000222"))],
)
def test_each_thread_of_each_target_of_each_account_is_a_conversation_of_its_own(channel: Channel, threads: Any) -> None:
    one, other = threads
    messages = [
        new(channel, {"text": "x"}),
        new(channel, {"text": "x"}, account_id="acme"),
        new(channel, {"text": "x", "thread_id": one}),
        new(channel, {"text": "x", "thread_id": other}),
        new(channel, {"text": "x", "thread_id": one}, target="1"),
    ]
    keys = [channel.ordering_key_for(item) for item in messages]
    assert None not in keys
    assert len(set(keys)) == len(messages)
    assert channel.ordering_key_for(new(channel, {"text": "another", "thread_id": one})) == keys[2]


@pytest.mark.proves("R2", "T40")
def test_thread_42_is_not_thread_42_in_quotes() -> None:
    as_number, as_text = (TELEGRAM.ordering_key_for(new(TELEGRAM, {"text": "x", "thread_id": of})) for of in (42, "42"))
    assert as_number != as_text


@pytest.mark.proves("T40")
def test_a_reply_in_slack_belongs_to_the_thread_that_it_replies_to() -> None:
    reply = SLACK.ordering_key_for(new(SLACK, {"text": "x", "reply_to": TS}))
    assert reply == SLACK.ordering_key_for(new(SLACK, {"text": "x", "thread_id": TS}))


@pytest.mark.parametrize("channel", [TELEGRAM, SLACK, DISCORD])
def test_a_row_has_the_same_key_as_the_message_that_it_came_from_whatever_its_payload(channel: Channel) -> None:
    target = TARGETS[channel.name]
    payload = {"text": "x", "thread_id": TS}
    row = message(channel=channel.name, target=target, payload=payload)
    assert channel.ordering_key_for(row) == channel.ordering_key_for(new(channel, payload))
    plain = channel.ordering_key_for(new(channel, "x"))
    for odd in (None, 7, {"thread_id": []}, {"text": "x", "thread_id": "9" * 4000}):
        assert channel.ordering_key_for(message(channel=channel.name, target=target, payload=odd)) == plain
    assert channel.ordering_key_for(message(channel=channel.name, target=target, payload_json="{")) == plain


def test_a_chat_channel_that_is_not_ordered_gives_no_key() -> None:
    unordered = Slack(token="xoxb-17653672481-19874698323", ordered=False)
    assert unordered.ordering_key_for(new(SLACK, "x")) is None


@pytest.mark.parametrize("channel", [TELEGRAM, SLACK, DISCORD])
def test_chats_are_in_order_brief_paced_and_closed_as_a_whole_when_the_service_is_down(channel: ChatChannel) -> None:
    assert channel.ordered
    assert channel.ttl_ms == 1_800_000
    limits = channel.limits()
    assert limits.recovery_pace_ms == 250
    assert limits.rate is not None
    assert limits.target_rate is not None
    assert limits.target_rate.interval_ms == 1_000
    assert channel.channel_breaker is not None


def test_only_discord_drops_a_second_message_with_the_same_key() -> None:
    assert [channel.name for channel in (TELEGRAM, SLACK, DISCORD) if channel.supports_idempotency_key] == ["discord"]
