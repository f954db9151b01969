"""The ``slack`` channel: messages of an app, by Slack's Web API (https://docs.slack.dev/reference/methods/chat.postMessage)."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from outbox.channels.content import Content, Media
from outbox.channels.rendering import to_json
from outbox.errors import DeliverySignal, InvalidMessage, OutcomeUnknown, PermanentFailure, RetryLater
from outbox.extras import extra
from outbox.message import Attempt, Message, Receipt
from outbox.policy.destination import Rate

with extra("chat", "the channel slack"):
    from outbox.channels.answer import Answer
    from outbox.channels.attachments import check_media, file_name, media_type
    from outbox.channels.chat import ChatChannel, object_of

MOST_BLOCKS = 50
MOST_ATTACHMENTS = 100
MOST_FILES = 10
_LARGEST_FILE = 1024**3
_TS = re.compile(r"\d{10,12}\.\d{6}", re.ASCII)
_CONVERSATION_ID = re.compile(r"[CDG][A-Z0-9]{2,30}")
_SHARE_OF_PREPARING = 0.8
"""Of a send's time, what uploads may take; the rest is for the call that shows them."""

_PASSING = frozenset(
    {"ratelimited", "rate_limited", "message_limit_exceeded", "request_timeout", "service_unavailable",
     "team_added_to_org", "org_login_required"}
)  # fmt: skip
_PERHAPS_DONE = frozenset({"internal_error", "fatal_error"})
"""Of these Slack itself says that some of the operation may have succeeded."""


class Slack(ChatChannel):
    """Sends to the conversation that the target names: its id, a user's id, or ``#name``. ``token`` is the app's or a user's.

    ``extra`` holds fields of ``chat.postMessage``, such as ``blocks``, ``attachments`` and ``unfurl_links``. Threads and the
    messages replied to are named by their ``ts``, as text. Slack knows no silent messages: ``silent`` has no effect.
    """

    name = "slack"
    rate_limit = Rate(300, 60)
    target_rate_limit = Rate(1)
    text_limit = 40_000

    service = "Slack"
    api = "https://slack.com/api"
    token_shape = re.compile(r"(?:xoxe\.)?xox[bp]-[A-Za-z0-9-]{10,500}")
    target_shape = re.compile(r"[A-Z][A-Z0-9]{2,30}|#[^\s#@,.A-Z]{1,80}")
    target_meaning = "a conversation's or user's id, or #name"
    set_by_us = frozenset({"channel", "text", "thread_ts", "token"})
    interaction_fields = frozenset(
        {"response_url", "response_type", "replace_original", "delete_original", "trigger_id", "user"}
    )

    def check_content(self, target: str, said: Content) -> None:
        for name, value in (("thread_id", said.thread_id), ("reply_to", said.reply_to)):
            if value is not None and not (isinstance(value, str) and _TS.fullmatch(value)):
                raise InvalidMessage(f"{name} is {value!r}, and must be a message's ts as text, such as '1782584644.377229'")
        for media in said.media:
            check_media(media, longest=_LARGEST_FILE)
        for name, most in (("blocks", MOST_BLOCKS), ("attachments", MOST_ATTACHMENTS)):
            given = said.extra.get(name, ())
            if not isinstance(given, list | tuple):
                raise InvalidMessage(f"the {name} in extra must be a list")
            size = len(given) + (len(said.media) if name == "attachments" else 0)
            if size > most:
                raise InvalidMessage(f"{size} {name}, media among them, are more than the {most} of one message")
        if len(said.text) > self.text_limit:
            raise InvalidMessage(f"the text has {len(said.text)} characters; Slack takes {self.text_limit}")
        if not (said.text.strip() or said.media or any(said.extra.get(name) for name in ("blocks", "attachments"))):
            raise InvalidMessage("there is nothing to show: neither text, media, blocks nor attachments")
        if any(media.data is not None for media in said.media):
            _check_upload(target, said)

    async def deliver(self, message: Message, said: Content, token: str, attempt: Attempt) -> Receipt:
        if any(media.data is not None for media in said.media):
            return await self._share(message.target, said, token, attempt)
        posted = await self._post("chat.postMessage", _fields(message.target, said), token, attempt.timeout_s)
        ts = posted.get("ts")
        return Receipt(ts if isinstance(ts, str) else None, {"channel": posted.get("channel")})

    def thread_of(self, said: Content) -> str | int | None:
        """The thread, which a reply to a message belongs to as well: Slack knows no other replies."""
        return said.thread_id or said.reply_to

    async def _share(self, target: str, said: Content, token: str, attempt: Attempt) -> Receipt:
        """Upload the files, which shows nothing yet, then share them with the text in one call."""
        clock = asyncio.get_running_loop().time
        prepare_by = clock() + _SHARE_OF_PREPARING * attempt.timeout_s
        files = []
        for place, media in enumerate(said.media):
            try:
                files.append(await self._upload(media, place, token, max(prepare_by - clock(), 0.01)))
            except OutcomeUnknown as unknown:
                raise RetryLater(f"the upload failed: {unknown}") from None  # nothing has been shown
        fields: dict[str, Any] = {"files": files, "channel_id": target}
        if said.text:
            fields["initial_comment"] = said.text
        if thread := self.thread_of(said):
            fields["thread_ts"] = thread
        left_s = (1 - _SHARE_OF_PREPARING) * attempt.timeout_s + max(prepare_by - clock(), 0)
        await self._post("files.completeUploadExternal", fields, token, left_s)
        ids = [file["id"] for file in files]
        return Receipt(ids[0], {"channel": target, "files": ids})

    async def _upload(self, media: Media, place: int, token: str, timeout_s: float) -> dict[str, str]:
        name, data = file_name(media, place), media.data or b""
        asked = {"filename": name, "length": str(len(data)), **({"alt_txt": media.caption} if media.caption else {})}
        ticket = await self._post("files.getUploadURLExternal", asked, token, timeout_s, as_form=True)
        url, file_id = ticket.get("upload_url"), ticket.get("file_id")
        if not (isinstance(url, str) and isinstance(file_id, str)):
            raise OutcomeUnknown("Slack gave no place to upload to")
        # The URL is the credential: the token is not for whatever host it names.
        headers = {"Content-Type": media_type(media)}
        answer = await self._client.request("POST", url, body=data, headers=headers, timeout_s=timeout_s)
        if not answer.accepted:
            raise answer.failure([token, url])
        return {"id": file_id, "title": media.caption or name}

    async def _post(
        self, method: str, fields: Mapping[str, Any], token: str, timeout_s: float, *, as_form: bool = False
    ) -> dict[str, Any]:
        """What the method answers when it succeeds."""
        content_type = "application/x-www-form-urlencoded" if as_form else "application/json; charset=utf-8"
        body = urlencode(fields).encode() if as_form else to_json(fields)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        answer = await self.call(f"/{method}", body, headers, timeout_s)
        said = object_of(answer)
        if answer.accepted and said.get("ok") is True:
            return said
        raise self._failure(answer, said, token)

    def _failure(self, answer: Answer, said: Mapping[str, Any], token: str) -> DeliverySignal:
        error = said.get("error")
        if said.get("ok") is not False or not isinstance(error, str):
            return self.misunderstood(answer, token)
        told = self.told(_explained(error, said), token)
        wait = answer.wait_ms()
        if error in _PASSING or answer.status == 429:
            return RetryLater(told, None if wait is None else wait / 1000)
        if error in _PERHAPS_DONE:
            return OutcomeUnknown(told)
        if answer.status >= 500:
            return self.failure(answer.status, _explained(error, said), token, wait)
        return PermanentFailure(told)


def _check_upload(target: str, said: Content) -> None:
    if not all(media.data is not None for media in said.media):
        raise InvalidMessage("media by URL and media to upload cannot go in one message of Slack; enqueue two")
    if len(said.media) > MOST_FILES:
        raise InvalidMessage(f"{len(said.media)} files are more than the {MOST_FILES} of one message")
    if said.extra:
        raise InvalidMessage("a message with uploads takes no extra; enqueue it as a message of its own")
    if not _CONVERSATION_ID.fullmatch(target):
        raise InvalidMessage("files are uploaded to a conversation's id, not to a name or a user")


def _fields(target: str, said: Content) -> dict[str, Any]:
    fields: dict[str, Any] = {**said.extra, "channel": target}
    if said.text:
        fields["text"] = said.text
    if thread := said.thread_id or said.reply_to:
        fields["thread_ts"] = thread
    if said.media:
        shown = [_attachment(media, place) for place, media in enumerate(said.media)]
        fields["attachments"] = [*said.extra.get("attachments", ()), *shown]
    return fields


def _attachment(media: Media, place: int) -> dict[str, Any]:
    described = {"text": media.caption} if media.caption else {}
    name = file_name(media, place)
    if media_type(media).startswith("image/"):
        return {"fallback": media.caption or name, "image_url": media.url, **described}
    return {"fallback": media.caption or name, "title": name, "title_link": media.url, **described}


def _explained(error: str, said: Mapping[str, Any]) -> str:
    """The error's name, and what Slack adds: the scope that is missing, the argument that is wrong."""
    added = [str(said["needed"])] if "needed" in said else []
    metadata = said.get("response_metadata")
    messages = metadata.get("messages") if isinstance(metadata, dict) else None
    if isinstance(messages, list):
        added += [str(text) for text in messages]
    return f"{error}: {', '.join(added)}" if added else error
