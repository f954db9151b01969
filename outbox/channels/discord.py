"""The ``discord`` channel: messages of a bot, by Discord's REST API (https://discord.com/developers/docs/resources/message)."""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from outbox.channels.content import Content, Media
from outbox.channels.rendering import to_json
from outbox.errors import DeliverySignal, InvalidMessage
from outbox.extras import extra
from outbox.message import Attempt, Message, Receipt
from outbox.policy.destination import Rate

with extra("chat", "the channel discord"):
    from outbox.channels.answer import Answer
    from outbox.channels.attachments import File, check_media, file_name, form, media_type
    from outbox.channels.chat import ChatChannel, object_of, wait_ms

MOST_FILES = 10
MOST_EMBEDS = 10
MOST_EMBED_CHARACTERS = 6000
_LARGEST_FILE = 10 * 1024 * 1024
_LONGEST_DESCRIPTION = 1024
_LONGEST_NONCE = 25

_SUPPRESS_NOTIFICATIONS = 1 << 12
_EPHEMERAL = 1 << 6
_PASSING = frozenset({20016, 20022, 20028, 20029, 40004, 40006, 40062, 130000})
"""JSON codes of what passes, whatever the status: write limits, features switched off for now, an overloaded resource."""
_SHOWS_BY_ITSELF = ("embeds", "components", "sticker_ids", "poll")
# Discord asks for this form, and its edge turns away others.
_USER_AGENT = "DiscordBot (https://pypi.org/project/celery-outbox, 1)"


class Discord(ChatChannel):
    """Sends to the channel that the target, or within it the thread, names by its id. ``token`` is the bot's.

    ``extra`` holds fields of *Create Message*, such as ``embeds``, ``components`` and ``allowed_mentions``. Discord drops a
    second message with the same idempotency key for a few minutes.
    """

    name = "discord"
    rate_limit = Rate(50)
    target_rate_limit = Rate(1)
    supports_idempotency_key = True
    text_limit = 2000

    service = "Discord"
    api = "https://discord.com/api/v10"
    token_shape = re.compile(r"[A-Za-z0-9_-]{20,40}\.[A-Za-z0-9_-]{5,10}\.[A-Za-z0-9_-]{25,110}")
    target_shape = re.compile(r"\d{15,20}", re.ASCII)
    target_meaning = "a channel's id"
    set_by_us = frozenset({"content", "nonce", "enforce_nonce", "message_reference", "attachments", "payload_json", "files"})
    interaction_fields = frozenset({"interaction_id", "interaction_token", "interaction_response"})

    def check_content(self, target: str, said: Content) -> None:
        for name, value in (("thread_id", said.thread_id), ("reply_to", said.reply_to)):
            if value is not None and not (isinstance(value, str) and self.target_shape.fullmatch(value)):
                raise InvalidMessage(f"{name} is {value!r}, and must be an id as Discord writes it: digits, as text")
        if not (said.text.strip() or said.media or any(said.extra.get(name) for name in _SHOWS_BY_ITSELF)):
            raise InvalidMessage("there is nothing to show: neither text, media, embeds, components, stickers nor a poll")
        for media in said.media:
            check_media(media, longest=_LARGEST_FILE)
            if len(media.caption or "") > _LONGEST_DESCRIPTION:
                raise InvalidMessage(
                    f"a caption has {len(media.caption or '')} characters; Discord takes {_LONGEST_DESCRIPTION}"
                )
        flags = said.extra.get("flags", 0)
        if type(flags) is not int:
            raise InvalidMessage("the flags in extra must be a whole number")
        if flags & _EPHEMERAL:
            raise InvalidMessage("only an answer to a live interaction is ephemeral, and such answers cannot be enqueued")
        self._check_sizes(said)

    async def deliver(self, message: Message, said: Content, token: str, attempt: Attempt) -> Receipt:
        fields = {**_fields(said), "nonce": self._nonce(message, attempt), "enforce_nonce": True}
        files = _files(said)
        if files:
            content_type, body = await form({"payload_json": to_json(fields).decode()}, files)
        else:
            content_type, body = "application/json", to_json(fields)
        headers = {"Authorization": f"Bot {token}", "User-Agent": _USER_AGENT, "Content-Type": content_type}
        # A thread is a channel of its own.
        path = f"/channels/{said.thread_id or message.target}/messages"
        answer = await self.call(path, body, headers, attempt.timeout_s)
        sent = object_of(answer)
        if not (answer.accepted and isinstance(sent.get("id"), str)):
            raise self._failure(answer, token)
        return Receipt(sent["id"], {"channel_id": sent.get("channel_id")})

    def _failure(self, answer: Answer, token: str) -> DeliverySignal:
        said = object_of(answer)
        code, text = said.get("code"), said.get("message")
        if answer.accepted or not isinstance(text, str):
            return self.misunderstood(answer, token)
        reason = f"{answer.status} {text}" + (f" (code {code})" if type(code) is int and code else "")
        if errors := said.get("errors"):
            reason += f" {to_json(errors).decode()}"
        status = 503 if code in _PASSING else answer.status
        return self.failure(status, reason, token, wait_ms(said.get("retry_after"), answer))

    def _nonce(self, message: Message, attempt: Attempt) -> str:
        """The idempotency key in the few characters that Discord allows; it is unique to the bot, not to a channel of ours."""
        key = f"{self.name}|{message.target}|{attempt.idempotency_key}"
        return sha256(key.encode()).hexdigest()[:_LONGEST_NONCE]

    def _check_sizes(self, said: Content) -> None:
        text = _text(said)
        if len(text) > self.text_limit:
            raise InvalidMessage(
                f"the text, with the links to media, has {len(text)} characters; Discord takes {self.text_limit}"
            )
        if len(_files(said)) > MOST_FILES:
            raise InvalidMessage(f"{len(_files(said))} files are more than the {MOST_FILES} of one message")
        embeds = _embeds(said)
        if len(embeds) > MOST_EMBEDS:
            raise InvalidMessage(
                f"{len(embeds)} embeds, images by URL among them, are more than the {MOST_EMBEDS} of one message"
            )
        characters = sum(_characters(embed) for embed in embeds)
        if characters > MOST_EMBED_CHARACTERS:
            raise InvalidMessage(f"the embeds have {characters} characters; Discord takes {MOST_EMBED_CHARACTERS}")


def _fields(said: Content) -> dict[str, Any]:
    fields = dict(said.extra)
    if text := _text(said):
        fields["content"] = text
    if embeds := _embeds(said):
        fields["embeds"] = embeds
    if said.reply_to is not None:
        # A message that is gone meanwhile is no reason to lose the reply.
        fields["message_reference"] = {"message_id": said.reply_to, "fail_if_not_exists": False}
    if said.silent:
        fields["flags"] = fields.get("flags", 0) | _SUPPRESS_NOTIFICATIONS
    uploads = [media for media in said.media if media.data is not None]
    if uploads:
        fields["attachments"] = [_attachment(media, place) for place, media in enumerate(uploads)]
    return fields


def _text(said: Content) -> str:
    """The text, and below it the links to media that no embed shows; Discord's clients show what is behind them."""
    links = [_line(media) for media in said.media if media.url is not None and not _is_image(media)]
    return "\n".join(part for part in (said.text, *links) if part)


def _line(media: Media) -> str:
    return f"{media.caption} {media.url}" if media.caption else str(media.url)


def _embeds(said: Content) -> list[Any]:
    given = said.extra.get("embeds") or []
    if not isinstance(given, list | tuple) or not all(isinstance(embed, Mapping) for embed in given):
        raise InvalidMessage("the embeds in extra must be a list of tables")
    images = [media for media in said.media if media.url is not None and _is_image(media)]
    return [*given, *(_image(media) for media in images)]


def _image(media: Media) -> dict[str, Any]:
    return {"image": {"url": media.url}, **({"description": media.caption} if media.caption else {})}


def _is_image(media: Media) -> bool:
    return media_type(media).startswith("image/")


def _attachment(media: Media, place: int) -> dict[str, Any]:
    described = {"description": media.caption} if media.caption else {}
    return {"id": place, "filename": file_name(media, place), **described}


def _files(said: Content) -> Sequence[File]:
    uploads = [media for media in said.media if media.data is not None]
    return [
        File(f"files[{place}]", file_name(media, place), media.data or b"", media_type(media))
        for place, media in enumerate(uploads)
    ]


def _characters(embed: Mapping[str, Any]) -> int:
    """What Discord counts of an embed: title, description, names and values of fields, footer and author."""
    counted = {"title": embed.get("title"), "description": embed.get("description")}
    fields = embed.get("fields")
    parts = [counted, embed.get("footer"), embed.get("author"), *(fields if isinstance(fields, list | tuple) else ())]
    names = ("title", "description", "text", "name", "value")
    texts = [part.get(name) for part in parts if isinstance(part, Mapping) for name in names]
    return sum(len(text) for text in texts if isinstance(text, str))
