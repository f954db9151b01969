"""The ``matrix`` channel: events in rooms, by the client-server API (https://spec.matrix.org/latest/client-server-api/)."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from outbox.channels.content import Content, Media
from outbox.channels.rendering import to_json
from outbox.errors import DeliverySignal, InvalidMessage, NotReady, OutcomeUnknown, RetryLater
from outbox.extras import extra
from outbox.message import Attempt, Message, Receipt
from outbox.policy.destination import Rate

with extra("chat", "the channel matrix"):
    from outbox.channels.answer import Answer
    from outbox.channels.attachments import check_media, file_name, media_type
    from outbox.channels.chat import ChatChannel, object_of, wait_ms

LARGEST_CONTENT = 60_000
"""Bytes. An event may have 65,536 in all, and the homeserver adds the sender, hashes and signatures."""
_LARGEST_FILE = 100 * 1024 * 1024
_LARGEST_INTEGER = 2**53 - 1
_EVENT_ID = re.compile(r"\$[!-~]{1,254}")
_EVENT_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_MXC = re.compile(r"mxc://[A-Za-z0-9.:\[\]-]{1,255}/[A-Za-z0-9_-]{1,255}")
_MESSAGE = "m.room.message"
_KINDS = {"image": "m.image", "video": "m.video", "audio": "m.audio"}
_SHARE_OF_UPLOADING = 0.8
"""Of a send's time, what an upload may take; the rest is for the event that shows it."""

_PASSING = frozenset({"M_LIMIT_EXCEEDED", "M_RESOURCE_LIMIT_EXCEEDED"})
"""Of these the second has the status 403, and yet it is the homeserver that is full."""
_NO_TOKEN = frozenset({"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_LOCKED"})


class Matrix(ChatChannel):
    """Sends to the room that the target names by its id. ``base_url`` is the homeserver's, ``token`` a user's access token.

    ``extra`` holds fields of the event's content, such as ``formatted_body``, ``msgtype`` and ``m.mentions``; its
    ``event_type`` makes it another event than a message. A homeserver drops a second event with the same idempotency key, as
    long as the token, or the device that it belongs to, is the same.
    """

    name = "matrix"
    target_rate_limit = Rate(1)
    supports_idempotency_key = True
    text_limit = 15_000

    service = "Matrix"
    api = ""
    token_shape = re.compile(r"[A-Za-z0-9._~+/=-]{16,2000}")
    target_shape = re.compile(r"![^\s:#?\x00-\x1f\x7f]{1,200}(?::[A-Za-z0-9.\[\]:-]{1,200})?")
    target_meaning = "a room's id such as !abc:example.org, which an alias is not: its room may change between two attempts"
    set_by_us = frozenset({"body", "url", "filename"})
    interaction_fields = frozenset[str]()

    def check_content(self, target: str, said: Content) -> None:
        for name, value in (("thread_id", said.thread_id), ("reply_to", said.reply_to)):
            if value is not None and not (isinstance(value, str) and _EVENT_ID.fullmatch(value)):
                raise InvalidMessage(f"{name} is {value!r}, and must be an event's id such as '$Ga2…', as text")
        if (said.thread_id or said.reply_to) and "m.relates_to" in said.extra:
            raise InvalidMessage("extra may not hold 'm.relates_to' beside a thread_id or reply_to, which set it")
        if not (said.text.strip() or said.media or "event_type" in said.extra):
            raise InvalidMessage("there is nothing to show: neither text nor media, nor an event_type in extra")
        if len(said.media) > 1:
            raise InvalidMessage("an event of Matrix holds one file: enqueue each as a message, or the whole as a reply")
        for media in said.media:
            _check(media)
        if len(said.text) > self.text_limit:
            raise InvalidMessage(f"the text has {len(said.text)} characters; {self.text_limit} are sure to fit an event")
        _check_event(said)

    async def deliver(self, message: Message, said: Content, token: str, attempt: Attempt) -> Receipt:
        clock = asyncio.get_running_loop().time
        send_by = clock() + attempt.timeout_s
        uploaded = ""
        if said.media:
            uploaded = said.media[0].url or await self._upload(said.media[0], token, _SHARE_OF_UPLOADING * attempt.timeout_s)
        room, kind = quote(message.target, safe=""), quote(_event_type(said), safe="")
        path = f"/_matrix/client/v3/rooms/{room}/send/{kind}/{_transaction_id(attempt)}"
        body = to_json(_content(said, uploaded))
        answer = await self._request("PUT", path, token, body, "application/json", send_by - clock())
        event_id = object_of(answer).get("event_id")
        if not (answer.accepted and isinstance(event_id, str)):
            raise self._failure(answer, token)
        return Receipt(event_id, {"room_id": message.target})

    async def _upload(self, media: Media, token: str, timeout_s: float) -> str:
        """Where the homeserver keeps the file. It shows nothing to anybody, so that whatever fails is simply tried again."""
        path = f"/_matrix/media/v3/upload?filename={quote(file_name(media, 0), safe='')}"
        try:
            answer = await self._request("POST", path, token, media.data or b"", media_type(media), timeout_s)
            uri = object_of(answer).get("content_uri")
            if not (answer.accepted and isinstance(uri, str) and _MXC.fullmatch(uri)):
                raise self._failure(answer, token)
        except OutcomeUnknown as unknown:
            raise RetryLater(f"the upload failed: {unknown}") from None
        return uri

    async def _request(self, method: str, path: str, token: str, body: bytes, content_type: str, timeout_s: float) -> Answer:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        return await self._client.request(method, self._base_url + path, body=body, headers=headers, timeout_s=timeout_s)

    def _failure(self, answer: Answer, token: str) -> DeliverySignal:
        said = object_of(answer)
        code = said.get("errcode")
        if answer.accepted or not isinstance(code, str):
            return self.misunderstood(answer, token)
        reason = f"{code} {said.get('error') or ''}".strip()
        wish_ms = said.get("retry_after_ms")
        wait = wait_ms(wish_ms / 1000 if type(wish_ms) is int else None, answer)
        if code in _PASSING:
            return RetryLater(self.told(reason, token), None if wait is None else wait / 1000)
        if code in _NO_TOKEN:
            # Other accounts need not wait for the one whose token has ended.
            told = self.told(reason, token)
            return NotReady(told) if len(self._accounts.tokens) == 1 else RetryLater(told)
        return self.failure(answer.status, reason, token, wait)


def _check(media: Media) -> None:
    if media.url is not None and not _MXC.fullmatch(media.url):
        raise InvalidMessage("a homeserver fetches no media: give its data, or the mxc:// address of what was uploaded")
    check_media(replace(media, url=None if media.url is None else "https://matrix.org/"), longest=_LARGEST_FILE)


def _check_event(said: Content) -> None:
    kind = said.extra.get("event_type", _MESSAGE)
    if not (isinstance(kind, str) and _EVENT_TYPE.fullmatch(kind)):
        raise InvalidMessage(f"the event_type in extra is {kind!r}, and must be a name such as 'org.example.order'")
    for name, expected in (("msgtype", str), ("formatted_body", str), ("info", Mapping)):
        if name in said.extra and not isinstance(said.extra[name], expected):
            raise InvalidMessage(f"the {name} in extra is a {type(said.extra[name]).__name__}, and that is not what it holds")
    content = json.loads(to_json(_content(said, "mxc://matrix.org/" + 64 * "x")))
    size = len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())
    if size > LARGEST_CONTENT:
        raise InvalidMessage(f"the event's content takes {size} bytes; {LARGEST_CONTENT} are sure to fit an event")
    _check_numbers(content)


def _check_numbers(value: Any) -> None:
    """Events are canonical JSON, which has whole numbers alone (https://spec.matrix.org/latest/appendices/#canonical-json)."""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > _LARGEST_INTEGER):
        raise InvalidMessage(f"an event holds whole numbers up to 2**53 - 1, and extra has {value!r}: send it as text")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(part)


def _transaction_id(attempt: Attempt) -> str:
    """The same at every attempt; the key itself may hold what an application would not show to a homeserver."""
    return "outbox-" + sha256(attempt.idempotency_key.encode()).hexdigest()[:40]


def _event_type(said: Content) -> str:
    return str(said.extra.get("event_type", _MESSAGE))


def _content(said: Content, uploaded: str) -> dict[str, Any]:
    own = {name: value for name, value in said.extra.items() if name != "event_type"}
    content: dict[str, Any] = {}
    if said.media:
        content = _file(said, uploaded, own)
    elif said.text:
        content = {"body": said.text}
    if _event_type(said) == _MESSAGE:
        # By the default push rules nobody is notified of a notice.
        content.setdefault("msgtype", "m.notice" if said.silent else "m.text")
    if "formatted_body" in own:
        content["format"] = "org.matrix.custom.html"
    if relation := _relation(said):
        content["m.relates_to"] = relation
    return {**content, **own}


def _file(said: Content, uploaded: str, own: dict[str, Any]) -> dict[str, Any]:
    """A file's content; its text is the caption, which the body is when it differs from the name."""
    media = said.media[0]
    name = file_name(replace(media, url=None), 0)
    caption = "\n\n".join(part for part in (said.text, media.caption) if part)
    known = {} if media.data is None else {"size": len(media.data)}
    return {
        "msgtype": _KINDS.get(media_type(media).partition("/")[0], "m.file"),
        "body": caption or name,
        "filename": name,
        "url": uploaded,
        "info": {"mimetype": media_type(media), **known, **own.pop("info", {})},
    }


def _relation(said: Content) -> dict[str, Any]:
    """Thread and reply. A client that knows no threads shows what stands in one as a reply to its root."""
    if said.thread_id is None:
        return {} if said.reply_to is None else {"m.in_reply_to": {"event_id": said.reply_to}}
    return {
        "rel_type": "m.thread",
        "event_id": said.thread_id,
        "is_falling_back": said.reply_to is None,
        "m.in_reply_to": {"event_id": said.reply_to or said.thread_id},
    }
