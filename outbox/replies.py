"""A reply of several parts as messages: one row each, in one turn and one order, so that progress is rows.

Who answers whom is settled here, once, because the stored payload is final: a part's own ``reply_to`` beats the reply's, an
explicit ``None`` suppresses it, and the reply's own is used once. Which part uses it is left to the send: the first one that
is delivered.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import uuid_utils

from outbox.channels.base import Channel
from outbox.channels.content import split_text
from outbox.errors import InvalidMessage
from outbox.message import INHERITS_REPLY_TO, NewMessage


def messages(
    channel: Channel | None, common: NewMessage, parts: Sequence[str | Mapping[str, Any]], *, reply_to: str | int | None,
    thread_id: str | int | None,
) -> list[NewMessage]:  # fmt: skip
    """The messages of a reply: ``common`` with each part's payload. Text above the channel's limit becomes several messages.

    Raises :class:`~outbox.errors.InvalidMessage` when there is nothing to say.
    """
    limit = channel.text_limit if channel is not None else None
    pieces = [piece for part in parts for piece in _pieces(_content(part, thread_id), limit)]
    if not pieces:
        raise InvalidMessage("a reply needs at least one part that says something")
    turn_id = common.turn_id or str(uuid_utils.uuid7())
    ordering_key = common.ordering_key or _ordering_key(channel, common, pieces[0], turn_id)
    return [
        _message(common, _answering(piece, reply_to), turn_id, ordering_key, number)
        for number, piece in enumerate(pieces, start=1)
    ]


def _content(part: str | Mapping[str, Any], thread_id: str | int | None) -> dict[str, Any]:
    if not isinstance(part, str | Mapping):
        raise InvalidMessage(f"a part of a reply is a text or a dictionary, not a {type(part).__name__}")
    content: dict[str, Any] = {"text": part} if isinstance(part, str) else dict(part)
    if thread_id is not None:
        content.setdefault("thread_id", thread_id)
    return content


def _pieces(content: dict[str, Any], limit: int | None) -> list[dict[str, Any]]:
    """The content cut at the channel's limit: media, extras and the reply stay with the first piece. Nothing is no piece."""
    text = content.get("text", "")
    if not (text or content.get("media") or content.get("extra")):
        return []
    if limit is None or not isinstance(text, str) or len(text) <= limit:
        return [content]
    first, *others = split_text(text, limit)
    kept = {name: content[name] for name in ("thread_id", "silent") if name in content}
    return [{**content, "text": first}, *({**kept, "text": other, "reply_to": None} for other in others)]


def _answering(content: dict[str, Any], reply_to: str | int | None) -> tuple[dict[str, Any], bool]:
    """The content with its ``reply_to``, and whether that is the reply's own, to be used once."""
    if reply_to is None or "reply_to" in content:
        return {name: value for name, value in content.items() if name != "reply_to" or value is not None}, False
    return {**content, "reply_to": reply_to}, True


def _message(common: NewMessage, said: tuple[dict[str, Any], bool], turn_id: str, ordering_key: str, number: int) -> NewMessage:
    payload, inherits = said
    headers = {**(common.headers or {}), **({INHERITS_REPLY_TO: True} if inherits else {})}
    key = None if common.idempotency_key is None else f"{common.idempotency_key}#{number}"
    return common.with_payload(payload, headers or None, turn_id=turn_id, ordering_key=ordering_key, idempotency_key=key)


def _ordering_key(channel: Channel | None, common: NewMessage, first: dict[str, Any], turn_id: str) -> str:
    """The conversation's key where the channel has one; else the turn's, so that the parts keep their order."""
    own = channel.ordering_key_for(common.with_payload(first, None)) if channel is not None else None
    return own or f"turn|{turn_id}"
