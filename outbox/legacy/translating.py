"""From the old queue's words to those of the outbox's chat channels.

What has no counterpart there, and everything exactly as it was written, stays with the message in :data:`HEADER`.
"""

from collections.abc import Mapping
from typing import Any

from outbox.legacy.entry import Entry, EntryRefused

HEADER = "legacy"
"""Header of an imported message: ``options`` of the whole entry and ``payload`` of this part, but for its ``text``."""


def content(entry: Entry, part: Mapping[str, Any]) -> dict[str, Any]:
    """A part's payload. An explicit null for the reply-to is kept, because it suppresses the entry's own.

    Raises :class:`~outbox.legacy.entry.EntryRefused` for values that mean nothing.
    """
    said: dict[str, Any] = {}
    if (text := _typed(part, "text", str)) is not None:
        said["text"] = text
    if urls := _media_urls(part):
        said["media"] = [{"url": url} for url in urls]
    if extra := _typed(part, "channelData", dict):
        said["extra"] = extra
    if "replyToId" in part:
        said["reply_to"] = reply_to(part)
    silent = _typed(part if "silent" in part else entry.options, "silent", bool)
    return said if silent is None else {**said, "silent": silent}


def reply_to(whole: Mapping[str, Any]) -> str | int | None:
    """What a part, or an entry's options, says that it answers; an empty id is none."""
    return _typed(whole, "replyToId", str | int) or None


def thread_id(entry: Entry) -> str | int | None:
    """The thread that the entry goes to, its type kept: 42 is not "42"."""
    return _typed(entry.options, "threadId", str | int) or None


def verbatim(entry: Entry, part: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says of a part, to be kept in the headers; its text stands in the payload already."""
    untold = {key: value for key, value in part.items() if key != "text" or not isinstance(value, str)}
    return {HEADER: {"options": dict(entry.options), "payload": untold}}


def _media_urls(part: Mapping[str, Any]) -> list[str]:
    one, several = _typed(part, "mediaUrl", str), _typed(part, "mediaUrls", list) or []
    if not all(isinstance(url, str) for url in several):
        raise EntryRefused("one of its mediaUrls is not text")
    return [url for url in dict.fromkeys([*([one] if one not in several else []), *several]) if url]


def _typed(given: Mapping[str, Any], key: str, kind: Any) -> Any:
    """The value, or ``None`` where it is absent or null. JSON has one kind of number: a whole one is an ``int``."""
    value = given.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
        return value
    raise EntryRefused(f"its {key} is a {type(value).__name__}, and that means nothing")
