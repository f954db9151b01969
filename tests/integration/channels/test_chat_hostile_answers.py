"""Services that answer nonsense, or for ever, or with the secrets that they were given: the same for every chat channel."""

import json
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from outbox.channels.chat import ChatChannel
from outbox.channels.discord import Discord
from outbox.channels.slack import Slack
from outbox.channels.telegram import Telegram
from outbox.errors import DeliverySignal, OutcomeUnknown
from outbox.message import Message
from outbox.outcome import Rejected, Retry, Unknown
from tests import factories
from tests.integration.channels.conftest import DISCORD_TOKEN, SLACK_TOKEN, TELEGRAM_TOKEN
from tests.integration.channels.service import LOOPBACK, outcome
from tests.receiver import Behaviour, Received, Receiver, answer, drip, hang, raw, receiving, then_close, then_reset

JSON = {"Content-Type": "application/json"}
TARGETS = {"telegram": "42", "slack": "C1H9RESGL", "discord": "290926798999357250"}
TOKENS = {"telegram": TELEGRAM_TOKEN, "slack": SLACK_TOKEN, "discord": DISCORD_TOKEN}
KINDS: dict[str, Callable[..., ChatChannel]] = {"telegram": Telegram, "slack": Slack, "discord": Discord}
SUCCESS = {
    "telegram": {"ok": True, "result": {"message_id": 7}},
    "slack": {"ok": True, "channel": "C1H9RESGL", "ts": "1503435956.000247"},
    "discord": {"id": "1103999888777666555", "channel_id": "290926798999357250"},
}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as listening:
        yield listening


@pytest.fixture(params=KINDS)
async def channel(request: pytest.FixtureRequest, receiver: Receiver) -> AsyncIterator[ChatChannel]:
    kind = request.param
    made = KINDS[kind](token=TOKENS[kind], base_url=f"http://127.0.0.1:{receiver.port}", **LOOPBACK)
    yield made
    await made.aclose()


def hello(channel: ChatChannel) -> Message:
    return factories.message(channel=channel.name, target=TARGETS[channel.name], payload="hello")


def success(channel: ChatChannel, padding: int = 0) -> bytes:
    return json.dumps({**SUCCESS[channel.name], "padding": "x" * padding}).encode()


async def test_what_is_answered_in_full_is_delivered(channel: ChatChannel, receiver: Receiver) -> None:
    receiver.behaviour = answer(200, success(channel, padding=900_000), JSON)
    receipt = await channel.send_final(hello(channel), factories.attempt())
    assert receipt.provider_id in ("7", "1503435956.000247", "1103999888777666555")


@pytest.mark.proves("T30")
@pytest.mark.parametrize("name", ["endless", "short", "cut", "huge", "nested", "compressed", "empty", "broken", "no type"])
async def test_an_answer_that_cannot_be_read_is_no_delivery(name: str, channel: ChatChannel, receiver: Receiver) -> None:
    whole = success(channel)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    behaviours: dict[str, Behaviour] = {
        "endless": drip(head + b"\r\n" + whole[:-1]),
        "short": raw(head + b"Content-Length: 20\r\n\r\n" + whole),
        "cut": then_close(head + b"Content-Length: 5000\r\n\r\n" + whole[:-1]),
        "huge": answer(200, success(channel, padding=2_000_000), JSON),
        "nested": answer(200, b"[" * 100_000, JSON),
        "compressed": answer(200, b"\x1f\x8b\x08\x00", {**JSON, "Content-Encoding": "gzip"}),
        "empty": answer(200),
        "broken": answer(200, whole[:-1], JSON),
        "no type": answer(200, whole),
    }
    receiver.behaviour = behaviours[name]
    result = await outcome(channel, hello(channel), timeout_s=1.0)
    assert isinstance(result, Unknown)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("behaviour", [then_reset(), then_close(), hang, raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")])
async def test_no_answer_leaves_the_outcome_unknown(behaviour: Behaviour, channel: ChatChannel, receiver: Receiver) -> None:
    receiver.behaviour = behaviour
    assert isinstance(await outcome(channel, hello(channel), timeout_s=0.3), Unknown)
    assert len(receiver.requests) == 1


async def test_where_no_connection_is_made_nothing_was_sent(channel: ChatChannel, unused_tcp_port: int) -> None:
    unreachable = KINDS[channel.name](token=TOKENS[channel.name], base_url=f"http://127.0.0.1:{unused_tcp_port}", **LOOPBACK)
    assert isinstance(await outcome(unreachable, hello(channel)), Retry)
    await unreachable.aclose()


def limited(channel: ChatChannel, wish: Any) -> bytes:
    said: dict[str, Any] = {
        "telegram": {"ok": False, "error_code": 429, "description": "slow down", "parameters": {"retry_after": wish}},
        "slack": {"ok": False, "error": "ratelimited"},
        "discord": {"message": "slow down", "retry_after": wish, "global": False},
    }[channel.name]
    return json.dumps(said).encode()


@pytest.mark.parametrize("years", [31556952000, 10**400, 1e300])
async def test_a_wish_for_a_thousand_years_is_bounded(years: Any, channel: ChatChannel, receiver: Receiver) -> None:
    receiver.behaviour = answer(429, limited(channel, years), {**JSON, "Retry-After": str(years)})
    result = await outcome(channel, hello(channel))
    assert isinstance(result, Retry)
    assert result.after_ms is None or result.after_ms <= 366 * 24 * 3600 * 1000


@pytest.mark.parametrize("wish", [float("nan"), float("inf"), -5, "soon", True, None, [], {"seconds": 5}])
async def test_a_wish_that_means_nothing_gives_way_to_the_header(wish: Any, channel: ChatChannel, receiver: Receiver) -> None:
    receiver.behaviour = answer(429, limited(channel, wish), {**JSON, "Retry-After": "7"})
    result = await outcome(channel, hello(channel))
    assert isinstance(result, Retry)
    assert result.after_ms == 7_000


@pytest.mark.parametrize("status", [200, 302, 400, 403, 429, 500, 502])
async def test_a_token_that_the_service_echoes_is_not_kept(status: int, channel: ChatChannel, receiver: Receiver) -> None:
    async def echo(request: Received, writer: Any) -> None:
        heard = f"you said {request.path} and {request.headers.get('authorization')}"
        said = {"ok": False, "error_code": status, "error": heard, "description": heard, "message": heard, "code": 0}
        headers = {**JSON, "Location": f"http://elsewhere.example{request.path}"}
        await answer(status, json.dumps(said).encode(), headers)(request, writer)

    receiver.behaviour = echo
    with pytest.raises(DeliverySignal) as failed:
        await channel.send_final(hello(channel), factories.attempt())
    assert TOKENS[channel.name] in receiver.last.path + receiver.last.headers.get("authorization", "")
    told = "".join(traceback.format_exception(failed.value))
    secret_part = max(TOKENS[channel.name].replace(":", ".").split("."), key=len)
    assert secret_part not in told
    assert "[removed]" in told or isinstance(failed.value, OutcomeUnknown)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("behaviour", [hang, then_reset(), raw(b"nonsense\r\n\r\n"), answer(500), answer(302)])
async def test_neither_an_error_nor_its_traceback_nor_a_log_holds_the_token(
    behaviour: Behaviour, channel: ChatChannel, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.behaviour = behaviour
    with caplog.at_level(logging.DEBUG), pytest.raises(DeliverySignal) as failed:
        await channel.send_final(hello(channel), factories.attempt(timeout_s=0.3))
    assert TOKENS[channel.name] not in "".join(traceback.format_exception(failed.value)) + caplog.text


async def test_an_explanation_without_end_is_cut_and_storable(channel: ChatChannel, receiver: Receiver) -> None:
    words = "bad\0\ud800\n\x1b[2J" * 10_000
    said = {"ok": False, "error_code": 400, "description": words, "error": words, "message": words, "code": 50035}
    receiver.behaviour = answer(400, json.dumps(said).encode(), JSON)
    result = await outcome(channel, hello(channel))
    assert isinstance(result, Rejected)
    assert len(result.error) == 500
    assert result.error.encode()
    assert not {"\0", "\n", "\x1b"} & set(result.error)
