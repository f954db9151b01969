"""The ``telegram`` channel: messages of a bot, by the Bot API (https://core.telegram.org/bots/api)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from outbox.channels.content import Content, Media
from outbox.channels.rendering import to_json
from outbox.errors import DeliverySignal, InvalidMessage, RetryLater
from outbox.extras import extra
from outbox.message import Attempt, Message, Receipt
from outbox.policy.destination import Rate

with extra("chat", "the channel telegram"):
    from outbox.channels.answer import Answer
    from outbox.channels.attachments import File, check_media, file_name, form, media_type
    from outbox.channels.chat import ChatChannel, object_of, wait_ms

LONGEST_CAPTION = 1024
MOST_MEDIA = 10
_LARGEST_PHOTO = 10 * 1024 * 1024
_LARGEST_FILE = 50 * 1024 * 1024
_FILE_ID = re.compile(r"[A-Za-z0-9_-]{20,200}")
_DIGITS = re.compile(r"[0-9]{1,18}")
_KINDS = {
    "image/jpeg": "photo", "image/png": "photo", "image/webp": "photo", "image/gif": "animation", "video/mp4": "video",
    "audio/mpeg": "audio", "audio/mp4": "audio", "audio/x-m4a": "audio", "audio/ogg": "voice",
}  # fmt: skip
"""What Telegram shows as such; everything else goes as a document."""
_OF_A_CAPTION = ("parse_mode", "caption_entities", "show_caption_above_media")
_NOT_FETCHED = "failed to get http url content"


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    fields: Mapping[str, Any]
    files: Sequence[File] = ()


class Telegram(ChatChannel):
    """Sends to the chat that the target names, by its id or ``@name``. ``token`` is what @BotFather gave the bot.

    ``extra`` holds fields of the method that is called, such as ``parse_mode`` and ``reply_markup``.
    """

    name = "telegram"
    rate_limit = Rate(30)
    target_rate_limit = Rate(1)
    text_limit = 4096

    service = "Telegram"
    api = "https://api.telegram.org"
    token_shape = re.compile(r"\d{3,20}:[A-Za-z0-9_-]{20,100}")
    target_shape = re.compile(r"-?\d{1,19}|@[A-Za-z]\w{3,31}", re.ASCII)
    target_meaning = "a chat's id or its @name"
    set_by_us = frozenset(
        {"chat_id", "text", "caption", "message_thread_id", "reply_parameters", "reply_to_message_id", "disable_notification",
         "media", *_KINDS.values(), "document"}
    )  # fmt: skip
    interaction_fields = frozenset({"callback_query_id", "inline_query_id", "inline_message_id", "web_app_query_id"})

    def check_content(self, target: str, said: Content) -> None:
        # Many applications keep the ids of messages as text; a thread's id is part of the ordering key, and has one type.
        for name, value in (("thread_id", said.thread_id), ("reply_to", _as_number(said.reply_to))):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InvalidMessage(f"{name} is {value!r}, and must be a whole number above 0, as Telegram's ids are")
        if not (said.text.strip() or said.media):
            raise InvalidMessage("there is neither text nor media to send")
        for media in said.media:
            _check(media)
        _check_album(said)
        self._check_lengths(said)

    async def deliver(self, message: Message, said: Content, token: str, attempt: Attempt) -> Receipt:
        call = _call(message.target, said)
        answer = await self._post(call, token, attempt)
        moved_to = _moved_to(answer)
        if moved_to is not None:  # the refusal proves that nothing was sent
            answer = await self._post(replace(call, fields={**call.fields, "chat_id": moved_to}), token, attempt)
        result = object_of(answer).get("result")
        if not answer.accepted or object_of(answer).get("ok") is not True:
            raise self._failure(answer, token)
        sent = _message_ids(result if isinstance(result, list) else [result])
        details: dict[str, Any] = {"chat_id": moved_to} if moved_to is not None else {}
        if len(sent) > 1:
            details["message_ids"] = sent
        return Receipt(str(sent[0]) if sent else None, details)

    async def _post(self, call: _Call, token: str, attempt: Attempt) -> Answer:
        if call.files:
            texts = {name: value if isinstance(value, str) else to_json(value).decode() for name, value in call.fields.items()}
            content_type, body = await form(texts, call.files)
        else:
            content_type, body = "application/json", to_json(call.fields)
        return await self.call(f"/bot{token}/{call.method}", body, {"Content-Type": content_type}, attempt.timeout_s)

    def _failure(self, answer: Answer, token: str) -> DeliverySignal:
        said = object_of(answer)
        if said.get("ok") is not False:
            return self.misunderstood(answer, token)
        code = said.get("error_code")
        status = code if type(code) is int and 400 <= code < 600 else answer.status
        description = str(said.get("description") or "no description")
        parameters = said.get("parameters")
        wish = parameters.get("retry_after") if isinstance(parameters, dict) else None
        if _NOT_FETCHED in description.lower():  # a 400, and yet it is the media's server that failed
            return RetryLater(self.told(f"{status} {description}", token))
        return self.failure(status, f"{status} {description}", token, wait_ms(wish, answer))

    def _check_lengths(self, said: Content) -> None:
        if "parse_mode" in said.extra:
            return  # the limits count what is left when the marks are read, which only Telegram does
        if not said.media and len(said.text) > self.text_limit:
            raise InvalidMessage(f"the text has {len(said.text)} characters; Telegram takes {self.text_limit}")
        for place, media in enumerate(said.media):
            size = len(_caption(said, media, place))
            if size > LONGEST_CAPTION:
                raise InvalidMessage(
                    f"the caption has {size} characters; Telegram takes {LONGEST_CAPTION}: send a text of its own"
                )


def _check(media: Media) -> None:
    if media.url is not None and _FILE_ID.fullmatch(media.url):
        media = replace(media, url="https://api.telegram.org/")  # a file that Telegram has already
    check_media(media, longest=_LARGEST_FILE)
    if _kind(media) == "photo":
        check_media(media, longest=_LARGEST_PHOTO)


def _check_album(said: Content) -> None:
    if len(said.media) < 2:
        return
    if len(said.media) > MOST_MEDIA:
        raise InvalidMessage(f"{len(said.media)} media are more than the {MOST_MEDIA} of one album")
    kinds = {_kind(media) for media in said.media}
    if not (kinds <= {"photo", "video"} or kinds in ({"audio"}, {"document"})):
        raise InvalidMessage(
            f"an album holds photos and videos, or audio files, or documents, and not {' with '.join(sorted(kinds))}"
        )
    if "reply_markup" in said.extra:
        raise InvalidMessage("an album cannot have a reply_markup")


def _call(target: str, said: Content) -> _Call:
    fields: dict[str, Any] = {**said.extra, "chat_id": target if target.startswith("@") else int(target)}
    if said.thread_id is not None:
        fields["message_thread_id"] = said.thread_id
    if said.reply_to is not None:
        # A message that is gone meanwhile is no reason to lose the reply.
        fields["reply_parameters"] = {"message_id": _as_number(said.reply_to), "allow_sending_without_reply": True}
    if said.silent:
        fields["disable_notification"] = True
    if not said.media:
        return _Call("sendMessage", {**fields, "text": said.text})
    if len(said.media) == 1:
        return _single(fields, said)
    return _album(fields, said)


def _as_number(identity: str | int | None) -> str | int | None:
    return int(identity) if isinstance(identity, str) and _DIGITS.fullmatch(identity) else identity


def _single(fields: dict[str, Any], said: Content) -> _Call:
    media = said.media[0]
    kind = _kind(media)
    if caption := _caption(said, media, 0):
        fields["caption"] = caption
    if media.data is None:
        return _Call(f"send{kind.capitalize()}", {**fields, kind: media.url})
    return _Call(f"send{kind.capitalize()}", fields, [_file(kind, media, 0)])


def _album(fields: dict[str, Any], said: Content) -> _Call:
    of_caption = {name: fields.pop(name) for name in _OF_A_CAPTION if name in fields}
    items = []
    for place, media in enumerate(said.media):
        item = {"type": _kind(media), "media": media.url or f"attach://file{place}"}
        if caption := _caption(said, media, place):
            item |= {"caption": caption, **of_caption}
        items.append(item)
    files = [_file(f"file{place}", media, place) for place, media in enumerate(said.media) if media.data is not None]
    return _Call("sendMediaGroup", {**fields, "media": items}, files)


def _caption(said: Content, media: Media, place: int) -> str:
    """The message's text stands with the first of its media."""
    return "\n\n".join(part for part in (said.text if place == 0 else "", media.caption) if part)


def _kind(media: Media) -> str:
    return _KINDS.get(media_type(media), "document")


def _file(field: str, media: Media, place: int) -> File:
    return File(field, file_name(media, place), media.data or b"", media_type(media))


def _message_ids(sent: Sequence[Any]) -> list[int]:
    ids = [message.get("message_id") for message in sent if isinstance(message, dict)]
    return [identity for identity in ids if type(identity) is int]


def _moved_to(answer: Answer) -> int | None:
    """The id of the supergroup that the group has become."""
    said = object_of(answer)
    parameters = said.get("parameters")
    moved = parameters.get("migrate_to_chat_id") if said.get("ok") is False and isinstance(parameters, dict) else None
    return moved if type(moved) is int else None
