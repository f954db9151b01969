"""The Bot API at the wire: https://core.telegram.org/bots/api."""

import json
from typing import Any

import pytest

from outbox.message import Receipt
from outbox.outcome import Delivered, Outcome, Rejected, Retry, Unknown
from tests.factories import message
from tests.integration.channels.conftest import TELEGRAM_TOKEN, MakeTelegram
from tests.integration.channels.service import Answer, Service, Upload, outcome, say

CHAT = "-1001234567890"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


async def send(channel: Any, payload: Any, **fields: Any) -> Outcome:
    return await outcome(channel, message(**{"channel": "telegram", "target": CHAT, "payload": payload, **fields}))


def refusal(code: int, description: str, **parameters: Any) -> Answer:
    body = {"ok": False, "error_code": code, "description": description}
    return say(code, {**body, "parameters": parameters} if parameters else body)


async def test_a_text_is_sent_and_its_message_id_kept(telegram: MakeTelegram, telegram_service: Service) -> None:
    sent = await send(telegram(), {"text": "On its way"})
    assert sent == Delivered(Receipt("1001"))
    assert telegram_service.last.path == f"/bot{TELEGRAM_TOKEN}/sendMessage"
    assert telegram_service.last.fields == {"chat_id": -1001234567890, "text": "On its way"}


@pytest.mark.proves("R2")
async def test_everything_that_a_message_can_say_of_itself_goes_out_with_its_type(
    telegram: MakeTelegram, telegram_service: Service
) -> None:
    keyboard = {"inline_keyboard": [[{"text": "Track", "url": "https://shop.example/42"}]]}
    payload = {
        "text": "<b>On its way</b>",
        "thread_id": 42,
        "reply_to": 4711,
        "silent": True,
        "extra": {"parse_mode": "HTML", "reply_markup": keyboard},
    }
    await send(telegram(), payload, target="@shop_news")
    assert telegram_service.last.fields == {
        "chat_id": "@shop_news",
        "text": "<b>On its way</b>",
        "message_thread_id": 42,
        "reply_parameters": {"message_id": 4711, "allow_sending_without_reply": True},
        "disable_notification": True,
        "parse_mode": "HTML",
        "reply_markup": keyboard,
    }


async def test_the_id_of_a_message_replied_to_may_be_kept_as_text(telegram: MakeTelegram, telegram_service: Service) -> None:
    await send(telegram(), {"text": "yes", "reply_to": "4711"})
    assert telegram_service.last.fields["reply_parameters"]["message_id"] == 4711


@pytest.mark.parametrize(
    ("url", "given_type", "method", "field"),
    [
        ("https://shop.example/chart.png", None, "sendPhoto", "photo"),
        ("https://shop.example/chart.JPG?size=2", None, "sendPhoto", "photo"),
        ("https://shop.example/dance.gif", None, "sendAnimation", "animation"),
        ("https://shop.example/clip.mp4", None, "sendVideo", "video"),
        ("https://shop.example/song.mp3", None, "sendAudio", "audio"),
        ("https://shop.example/note", "audio/ogg; codecs=opus", "sendVoice", "voice"),
        ("https://shop.example/invoice.pdf", None, "sendDocument", "document"),
        ("https://shop.example/chart.png", "application/octet-stream", "sendDocument", "document"),
        ("https://shop.example/whatever", None, "sendDocument", "document"),
        ("AgACAgIAAxkBAAIBb2Z-fileid_0123456789", "image/png", "sendPhoto", "photo"),
    ],
)
async def test_media_by_url_go_through_the_method_for_their_type(
    url: str, given_type: str | None, method: str, field: str, telegram: MakeTelegram, telegram_service: Service
) -> None:
    sent = await send(
        telegram(), {"text": "Look", "media": [{"url": url, "type": given_type}], "extra": {"parse_mode": "HTML"}}
    )
    assert isinstance(sent, Delivered)
    assert telegram_service.last.path.endswith(f"/{method}")
    assert telegram_service.last.fields == {"chat_id": int(CHAT), field: url, "caption": "Look", "parse_mode": "HTML"}


async def test_media_as_data_are_uploaded_in_a_form(telegram: MakeTelegram, telegram_service: Service) -> None:
    media = {"data": PNG, "name": "Übersicht 1.png", "caption": "Chart"}
    sent = await send(telegram(), {"media": [media], "thread_id": 42, "extra": {"reply_markup": {"remove_keyboard": True}}})
    assert isinstance(sent, Delivered)
    call = telegram_service.last
    assert call.path.endswith("/sendPhoto")
    assert call.files == {"photo": Upload("Übersicht 1.png", "image/png", PNG)}
    assert call.fields == {
        "chat_id": CHAT,
        "caption": "Chart",
        "message_thread_id": "42",
        "reply_markup": '{"remove_keyboard":true}',
    }


@pytest.mark.proves("R15", "T32")
async def test_several_media_are_one_album_in_one_call_and_every_id_is_kept(
    telegram: MakeTelegram, telegram_service: Service
) -> None:
    media = ["https://shop.example/a.png", {"data": PNG, "type": "image/png", "caption": "mine"}, "https://shop.example/c.mp4"]
    sent = await send(telegram(), {"text": "*Three*", "media": media, "silent": True, "extra": {"parse_mode": "MarkdownV2"}})
    assert sent == Delivered(Receipt("1001", {"message_ids": [1001, 1002, 1003]}))
    assert len(telegram_service.calls) == 1
    call = telegram_service.last
    assert call.path.endswith("/sendMediaGroup")
    assert json.loads(call.fields.pop("media")) == [
        {"type": "photo", "media": "https://shop.example/a.png", "caption": "*Three*", "parse_mode": "MarkdownV2"},
        {"type": "photo", "media": "attach://file1", "caption": "mine", "parse_mode": "MarkdownV2"},
        {"type": "video", "media": "https://shop.example/c.mp4"},
    ]
    assert call.fields == {"chat_id": CHAT, "disable_notification": "true"}
    assert call.files == {"file1": Upload("file1.png", "image/png", PNG)}


@pytest.mark.parametrize(
    ("code", "description"),
    [
        (400, "Bad Request: chat not found"),
        (400, "Bad Request: message is too long"),
        (400, "Bad Request: can't parse entities: Unsupported start tag"),
        (400, "Bad Request: message thread not found"),
        (401, "Unauthorized"),
        (403, "Forbidden: bot was blocked by the user"),
        (403, "Forbidden: bot was kicked from the supergroup chat"),
        (403, "Forbidden: user is deactivated"),
        (404, "Not Found"),
        (413, "Request Entity Too Large"),
    ],
)
async def test_a_refusal_is_permanent_and_keeps_telegrams_words(
    code: int, description: str, telegram: MakeTelegram, telegram_service: Service
) -> None:
    telegram_service.answers = [refusal(code, description)]
    assert await send(telegram(), "hello") == Rejected(f"Telegram: {code} {description}")


async def test_flood_control_says_how_long_to_wait(telegram: MakeTelegram, telegram_service: Service) -> None:
    telegram_service.answers = [refusal(429, "Too Many Requests: retry after 35", retry_after=35)]
    limited = await send(telegram(), "hello")
    assert limited == Retry("Telegram: 429 Too Many Requests: retry after 35", after_ms=35_000)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(500, "Internal Server Error"), Retry),
        (refusal(400, "Bad Request: failed to get HTTP URL content"), Retry),
        (refusal(502, "Bad Gateway"), Unknown),
        (say(504, "<html>gateway time-out</html>"), Unknown),
        (say(503, "<html>maintenance</html>", {"Retry-After": "60"}), Retry),
        (say(403, "<html>forbidden by proxy</html>"), Rejected),
        # An error in the guise of a success is judged by what it says.
        (say(200, {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked by the user"}), Rejected),
        (say(200, {"ok": False, "error_code": 429, "description": "Too Many", "parameters": {"retry_after": 3}}), Retry),
        # And what is no answer of the API is no delivery.
        (say(200, "<html>Please log in to this network</html>"), Unknown),
        (say(200, {"ok": False}), Unknown),
        (say(200, {"result": {"message_id": 7}}), Unknown),
        (say(200, ["ok"]), Unknown),
    ],
)
async def test_other_answers_come_to_what_they_mean(
    answer: Answer, kind: type[Outcome], telegram: MakeTelegram, telegram_service: Service
) -> None:
    telegram_service.answers = [answer]
    assert isinstance(await send(telegram(), "hello"), kind)


@pytest.mark.parametrize("result", [True, {}, {"message_id": "7"}, []])
async def test_an_acceptance_without_an_id_is_an_acceptance(
    result: Any, telegram: MakeTelegram, telegram_service: Service
) -> None:
    telegram_service.answers = [say(200, {"ok": True, "result": result})]
    assert await send(telegram(), "hello") == Delivered(Receipt())


async def test_a_group_that_became_a_supergroup_is_followed_once_because_nothing_was_sent_to_the_old_one(
    telegram: MakeTelegram, telegram_service: Service
) -> None:
    upgraded = refusal(400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=-1009)
    telegram_service.answers = [upgraded]
    assert await send(telegram(), "hello", target="-5") == Delivered(Receipt("1001", {"chat_id": -1009}))
    assert [call.fields["chat_id"] for call in telegram_service.calls] == [-5, -1009]

    telegram_service.calls.clear()
    telegram_service.answers = [upgraded, upgraded]
    assert isinstance(await send(telegram(), "hello", target="-5"), Rejected)
    assert len(telegram_service.calls) == 2


async def test_the_account_chooses_the_bot(telegram: MakeTelegram, telegram_service: Service) -> None:
    other = "999999:" + "b" * 35
    channel = telegram(accounts={"support": {"token": other}})
    await send(channel, "hello")
    assert isinstance(await send(channel, "hello", account_id="support"), Rejected)
    assert [call.path for call in telegram_service.calls] == [f"/bot{TELEGRAM_TOKEN}/sendMessage", f"/bot{other}/sendMessage"]
    unknown = await send(channel, "hello", account_id="suport")
    assert unknown == Rejected("no account 'suport' is configured; did you mean 'support'? (configured: '', 'support')")
    assert len(telegram_service.calls) == 2


@pytest.mark.proves("T37")
async def test_what_was_enqueued_unseen_and_cannot_be_said_fails_for_good_and_nothing_is_sent(
    telegram: MakeTelegram, telegram_service: Service
) -> None:
    refused = await send(telegram(), {"text": "x" * 4097})
    assert refused == Rejected("the text has 4097 characters; Telegram takes 4096")
    assert telegram_service.calls == []
