"""The REST API at the wire: https://discord.com/developers/docs/resources/message."""

import json
from typing import Any

import pytest

from outbox.message import Receipt
from outbox.outcome import Delivered, Outcome, Rejected, Retry, Unknown
from tests.factories import message
from tests.integration.channels.conftest import DISCORD_TOKEN, MakeDiscord
from tests.integration.channels.service import Answer, Service, Upload, outcome, say

CHANNEL = "290926798999357250"
THREAD = "1103999888777000111"
ORIGINAL = "1103999888777000222"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


async def send(channel: Any, payload: Any, **fields: Any) -> Outcome:
    return await outcome(channel, message(**{"channel": "discord", "target": CHANNEL, "payload": payload, **fields}))


def refusal(status: int, code: int, text: str, **said: Any) -> Answer:
    return say(status, {"message": text, "code": code, **said})


def without_nonce(fields: dict[str, Any]) -> dict[str, Any]:
    assert fields["enforce_nonce"] is True
    assert 0 < len(fields["nonce"]) <= 25
    return {name: value for name, value in fields.items() if name not in ("nonce", "enforce_nonce")}


async def test_a_text_is_sent_and_its_message_id_kept(discord: MakeDiscord, discord_service: Service) -> None:
    sent = await send(discord(), {"text": "On its way"})
    assert sent == Delivered(Receipt("1103999888777666555", {"channel_id": CHANNEL}))
    call = discord_service.last
    assert (call.method, call.path) == ("POST", f"/channels/{CHANNEL}/messages")
    assert call.headers["authorization"] == f"Bot {DISCORD_TOKEN}"
    assert call.headers["user-agent"].startswith("DiscordBot (https://")
    assert without_nonce(call.fields) == {"content": "On its way"}


async def test_everything_that_a_message_can_say_of_itself_goes_out(discord: MakeDiscord, discord_service: Service) -> None:
    extra = {
        "embeds": [{"title": "Order 42", "fields": [{"name": "State", "value": "shipped"}]}],
        "components": [{"type": 1, "components": [{"type": 2, "style": 5, "label": "Track", "url": "https://shop.example"}]}],
        "allowed_mentions": {"parse": []},
        "flags": 4,
    }
    await send(discord(), {"text": "hi", "thread_id": THREAD, "reply_to": ORIGINAL, "silent": True, "extra": extra})
    assert discord_service.last.path == f"/channels/{THREAD}/messages"
    assert without_nonce(discord_service.last.fields) == {
        **extra,
        "content": "hi",
        "message_reference": {"message_id": ORIGINAL, "fail_if_not_exists": False},
        "flags": 4 | 4096,
    }


async def test_images_by_url_are_embeds_and_other_media_links_below_the_text(
    discord: MakeDiscord, discord_service: Service
) -> None:
    media = [
        {"url": "https://shop.example/chart.png", "caption": "Sales"},
        {"url": "https://shop.example/clip.mp4", "caption": "Watch:"},
        "https://shop.example/invoice.pdf",
    ]
    await send(discord(), {"text": "Look", "media": media, "extra": {"embeds": [{"title": "first"}]}})
    assert without_nonce(discord_service.last.fields) == {
        "content": "Look\nWatch: https://shop.example/clip.mp4\nhttps://shop.example/invoice.pdf",
        "embeds": [
            {"title": "first"},
            {"image": {"url": "https://shop.example/chart.png"}, "description": "Sales"},
        ],
    }


@pytest.mark.proves("R15", "T32")
async def test_files_and_text_go_in_one_form(discord: MakeDiscord, discord_service: Service) -> None:
    media = [{"data": PNG, "name": "Übersicht.png", "caption": "Chart"}, {"data": b"a,b\n", "type": "text/csv"}]
    sent = await send(discord(), {"text": "Two", "media": media})
    assert isinstance(sent, Delivered)
    assert len(discord_service.calls) == 1
    call = discord_service.last
    assert call.files == {
        "files[0]": Upload("Übersicht.png", "image/png", PNG),
        "files[1]": Upload("file1.csv", "text/csv", b"a,b\n"),
    }
    assert call.fields.keys() == {"payload_json"}
    assert without_nonce(json.loads(call.fields["payload_json"])) == {
        "content": "Two",
        "attachments": [
            {"id": 0, "filename": "Übersicht.png", "description": "Chart"},
            {"id": 1, "filename": "file1.csv"},
        ],
    }


@pytest.mark.proves("T28", "R12")
async def test_the_nonce_is_the_same_at_every_attempt_so_that_discord_sends_once(
    discord: MakeDiscord, discord_service: Service
) -> None:
    first = await send(discord(), "hello", idempotency_key="order-42/" + "long" * 100)
    again = await send(discord(), "hello", idempotency_key="order-42/" + "long" * 100)
    other = await send(discord(), "hello", idempotency_key="order-43")
    assert first == again
    assert first != other
    assert len({call.fields["nonce"] for call in discord_service.calls}) == 2


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (404, 10003, "Unknown Channel"),
        (403, 50001, "Missing Access"),
        (403, 50007, "Cannot send messages to this user"),
        (403, 50013, "Missing Permissions"),
        (400, 50006, "Cannot send an empty message"),
        (413, 40005, "Request entity too large"),
    ],
)
async def test_a_refusal_is_permanent_and_keeps_discords_words(
    status: int, code: int, text: str, discord: MakeDiscord, discord_service: Service
) -> None:
    discord_service.answers = [refusal(status, code, text)]
    assert await send(discord(), "hello") == Rejected(f"Discord: {status} {text} (code {code})")


async def test_what_is_wrong_with_a_form_is_kept(discord: MakeDiscord, discord_service: Service) -> None:
    errors = {"content": {"_errors": [{"code": "BASE_TYPE_MAX_LENGTH", "message": "Must be 2000 or fewer in length."}]}}
    discord_service.answers = [refusal(400, 50035, "Invalid Form Body", errors=errors)]
    refused = await send(discord(), "hello")
    assert isinstance(refused, Rejected)
    assert refused.error.startswith("Discord: 400 Invalid Form Body (code 50035) ")
    assert "Must be 2000 or fewer in length." in refused.error


async def test_a_wrong_token_is_permanent(discord: MakeDiscord) -> None:
    refused = await send(discord(token="A" * 24 + ".Cl2FMQ." + "B" * 38), "hello")
    assert refused == Rejected("Discord: 401 401: Unauthorized")


@pytest.mark.parametrize("everywhere", [False, True])
async def test_a_rate_limit_says_how_long_to_wait_to_the_millisecond(
    everywhere: bool, discord: MakeDiscord, discord_service: Service
) -> None:
    said = {"message": "You are being rate limited.", "retry_after": 64.57, "global": everywhere}
    headers = {"Retry-After": "65", "X-RateLimit-Remaining": "0", "X-RateLimit-Scope": "global" if everywhere else "user"}
    discord_service.answers = [say(429, said, headers)]
    assert await send(discord(), "hello") == Retry("Discord: 429 You are being rate limited.", after_ms=64_570)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(400, 20028, "The channel you are writing has hit the write rate limit"), Retry),
        (refusal(403, 40006, "This feature has been temporarily disabled server-side"), Retry),
        (refusal(503, 130000, "API resource is currently overloaded. Try again a little later"), Retry),
        (refusal(500, 0, "500: Internal Server Error"), Retry),
        (say(429, "<html>error code: 1015</html>", {"Retry-After": "5"}), Retry),
        (say(502, "<html>bad gateway</html>"), Unknown),
        (say(503, "<html>maintenance</html>"), Retry),
        (say(403, "<html>Access denied</html>"), Rejected),
        (say(200, "<html>Please log in to this network</html>"), Unknown),
        (say(200, {"message": "Missing Access", "code": 50001}), Unknown),
        (say(200, {"id": 7}), Unknown),
        (say(204, ""), Unknown),
    ],
)
async def test_other_answers_come_to_what_they_mean(
    answer: Answer, kind: type[Outcome], discord: MakeDiscord, discord_service: Service
) -> None:
    discord_service.answers = [answer]
    assert isinstance(await send(discord(), "hello"), kind)


async def test_the_account_chooses_the_bot(discord: MakeDiscord) -> None:
    channel = discord(token=None, accounts={"support": {"token": DISCORD_TOKEN}})
    assert isinstance(await send(channel, "hello", account_id="support"), Delivered)
    assert isinstance(await send(channel, "hello", account_id="sales"), Rejected)
