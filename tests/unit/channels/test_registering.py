"""What makes a channel: an adapter that could not work is refused by name when it is registered, and not at its first send."""

from typing import Any

import pytest

from outbox import Attempt, Backoff, Channel, Message, Outbox, Receipt
from outbox.channels.base import FunctionChannel
from outbox.channels.content import read
from outbox.channels.registry import ChannelRegistry
from outbox.errors import ConfigurationError, InvalidMessage
from outbox.policy.destination import Breaker
from outbox.policy.retention import Retention


class Mute(Channel):
    name = "mute"


class Plain(Channel):
    """Nothing but what every adapter must have."""

    name = "plain"
    target_required = False

    def __init__(self, name: str | None = None, **policy: Any) -> None:
        super().__init__(name, **policy)
        self.sent: list[Any] = []

    def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        self.sent.append(message.payload)
        return Receipt(str(len(self.sent)))


class TextOnly(Plain):
    def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        return Receipt(read(message.payload, media_allowed=False).text)


def register(channel: Channel) -> Channel:
    known = ChannelRegistry()
    known.register(channel)
    return known.get(channel.name)


@pytest.mark.proves("R13")
def test_an_adapter_without_send_final_is_refused_at_once_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"channel 'mute' \(.*Mute\) has no send_final"):
        register(Mute())


@pytest.mark.proves("R13", "T36")
def test_an_adapter_with_nothing_but_send_final_delivers_text_media_and_rich_payloads() -> None:
    payloads: list[Any] = [
        "text",
        {"media": [{"data": b"\x00"}]},
        {"extra": {"blocks": [{"type": "divider"}]}},
        None,
        [1, (2.5,)],
    ]
    plain = Plain()
    with_outbox = Outbox("sqlite://", channels=[plain])
    with_outbox.upgrade_schema()
    with with_outbox.store.engine.begin() as transaction:
        queued = [with_outbox.enqueue(transaction, "plain", payload=payload) for payload in payloads]
    with_outbox.drain()
    assert {with_outbox.get(each.id).status for each in queued} == {"delivered"}
    assert plain.sent == payloads
    with_outbox.close()


@pytest.mark.proves("T37")
def test_media_for_an_adapter_that_sends_text_only_fail_and_are_not_dropped() -> None:
    with_outbox = Outbox("sqlite://", channels=[TextOnly()])
    with_outbox.upgrade_schema()
    with with_outbox.store.engine.begin() as transaction:
        queued = with_outbox.enqueue(transaction, "plain", payload={"text": "x", "media": ["https://a.example/1.png"]})
    with_outbox.drain()
    message = with_outbox.get(queued.id)
    assert message.delivered_at is None
    assert "text only" in (message.last_error or "")
    with_outbox.close()


@pytest.mark.parametrize("name", [None, "", "Chat", "1st", "a b", "a" * 64, 7])
def test_a_channel_needs_a_name_that_can_name_a_queue(name: Any) -> None:
    channel = Plain()
    channel.name = name
    with pytest.raises(ConfigurationError, match="needs a name of lower-case letters"):
        register(channel)


def test_two_channels_of_one_name_are_refused() -> None:
    known = ChannelRegistry()
    known.register(Plain())
    with pytest.raises(ConfigurationError, match="registered twice"):
        known.register(Plain())


@pytest.mark.proves("R6")
@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e300, True, "60", 0.0001])
def test_a_ttl_that_is_no_finite_time_above_0_is_refused(ttl: Any) -> None:
    with pytest.raises(ConfigurationError, match="channel 'plain': ttl "):
        register(Plain(ttl=ttl))


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ({"timeout": 0}, "timeout must be a finite number of seconds above 0, not 0"),
        ({"timeout": 86_400}, "timeout is 86400 seconds, and 43200 are the most"),
        ({"recovery_pace": -1}, "recovery_pace must be"),
        ({"concurrency": 0}, "concurrency must be a whole number above 0, not 0"),
        ({"batch_size": 2.0}, "batch_size must be"),
        ({"max_in_flight": True}, "max_in_flight must be"),
        ({"max_attempts": "5"}, "max_attempts must be"),
        ({"target_in_flight": 0}, "target_in_flight must be"),
        ({"backoff": "soon"}, "backoff 'soon' is not understood"),
        ({"backoff": {"pauses": [1]}}, "backoff .* is not understood"),
        ({"rate_limit": "fast"}, "rate_limit 'fast' is not understood"),
        ({"target_breaker": {"after": -1, "x": 1}}, "target_breaker .* is not understood"),
        ({"retention": {"delivered_s": 2, "failed_s": 1}}, "failures are kept at least as long as deliveries"),
        ({"on_unknown": "panic"}, "on_unknown must be one of 'resend', 'reconcile', 'park', not 'panic'"),
        ({"expire_action": "keep"}, "expire_action must be one of 'fail', 'deliver'"),
        ({"dead_head": "stay"}, "dead_head must be one of"),
        ({"on_unknown": "reconcile"}, "asks for on_unknown='reconcile' but has no find_delivery"),
        ({"timeuot": 1}, "has no option 'timeuot'; did you mean 'timeout'"),
    ],
    ids=str,
)
def test_policy_that_means_nothing_is_refused_with_channel_and_option(policy: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"channel 'plain'.*{complaint}" if "kept" not in complaint else complaint):
        register(Plain(**policy))


def test_policy_may_be_written_as_a_configuration_file_can_say_it() -> None:
    channel = register(
        FunctionChannel(
            "chat", lambda _message, _attempt: None, backoff=[1, 2.5], rate_limit="30/s", target_breaker=False,
            channel_breaker={}, retention={"delivered_s": 60, "failed_s": 90.5, "blank_after_s": 0},
        )
    )  # fmt: skip
    assert channel.backoff == Backoff((1.0, 2.5))
    assert channel.rate_limit is not None
    assert (channel.target_breaker, channel.channel_breaker) == (None, Breaker())
    assert channel.retention == Retention(60_000, 90_500, 0)


def test_media_are_read_where_they_are_allowed() -> None:
    assert read({"media": ["https://a.example/1.png"]}).media[0].url == "https://a.example/1.png"
    with pytest.raises(InvalidMessage, match="sends text only"):
        read({"media": ["https://a.example/1.png"]}, media_allowed=False)
