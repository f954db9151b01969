"""What chat channels send: text, media and a channel's own extras, read from a message's payload in one way for all of them.

A payload is a text, or a dictionary of ``text``, ``media``, ``reply_to``, ``thread_id``, ``silent`` and ``extra``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outbox.errors import InvalidMessage, did_you_mean

_FIELDS = frozenset({"text", "media", "reply_to", "thread_id", "silent", "extra"})
_MEDIA_FIELDS = frozenset({"url", "data", "name", "type", "caption"})


@dataclass(frozen=True, slots=True)
class Media:
    """One attachment: fetched by the provider from ``url``, or sent along as ``data``. ``type`` is its media type."""

    url: str | None = None
    data: bytes | None = None
    name: str | None = None
    type: str | None = None
    caption: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A chat message. ``reply_to`` and ``thread_id`` keep their type: 42 is not "42". ``extra`` is the provider's own."""

    text: str = ""
    media: Sequence[Media] = ()
    reply_to: str | int | None = None
    thread_id: str | int | None = None
    silent: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self.text.strip() or self.media or self.extra)


def read(payload: Any, *, media_allowed: bool = True) -> Content:
    """The content of a payload. Raises :class:`~outbox.errors.InvalidMessage` for what no chat channel can express."""
    if isinstance(payload, str):
        return Content(text=payload)
    if not isinstance(payload, Mapping):
        raise InvalidMessage(f"a chat payload is a text or a dictionary, not {type(payload).__name__}")
    _refuse_unknown(payload, _FIELDS, "payload")
    content = Content(
        text=_typed(payload, "text", str, ""),
        media=tuple(_media(item) for item in _typed(payload, "media", list | tuple, ())),
        reply_to=_typed(payload, "reply_to", str | int | None, None),
        thread_id=_typed(payload, "thread_id", str | int | None, None),
        silent=_typed(payload, "silent", bool, False),
        extra=_typed(payload, "extra", Mapping, {}),
    )
    if content.media and not media_allowed:
        raise InvalidMessage("this channel sends text only, and the payload has media")
    return content


def read_with_own(payload: Any, *, own: frozenset[str], shared: frozenset[str]) -> tuple[Content, Mapping[str, Any]]:
    """The content of a payload, and the fields beside it that are a channel's ``own``; of these ``None`` says nothing.

    ``shared`` are the fields of every chat message that the channel can express. Raises as :func:`read` does.
    """
    if not isinstance(payload, Mapping):
        return read(payload), {}
    _refuse_unknown(payload, own | shared, "payload")
    beside = {name: value for name, value in payload.items() if name in own and value is not None}
    return read({name: value for name, value in payload.items() if name in shared}), beside


def _media(item: Any) -> Media:
    if isinstance(item, str):
        return Media(url=item)
    if not isinstance(item, Mapping):
        raise InvalidMessage(f"media is a list of URLs or dictionaries, and holds a {type(item).__name__}")
    _refuse_unknown(item, _MEDIA_FIELDS, "media")
    media = Media(
        url=_typed(item, "url", str | None, None),
        data=_typed(item, "data", bytes | None, None),
        name=_typed(item, "name", str | None, None),
        type=_typed(item, "type", str | None, None),
        caption=_typed(item, "caption", str | None, None),
    )
    if (media.url is None) == (media.data is None):
        raise InvalidMessage("a media item has either a url or data")
    return media


def _refuse_unknown(given: Mapping[Any, Any], known: frozenset[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise InvalidMessage(f"the {where} has the unknown field {name!r}{did_you_mean(str(name), known)}")


def _typed(given: Mapping[str, Any], name: str, kind: Any, default: Any) -> Any:
    value = given.get(name, default)
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if wrong:
        raise InvalidMessage(f"{name} is a {type(value).__name__}, and that is not what it holds")
    return value


def split_text(text: str, limit: int) -> list[str]:
    """``text`` in pieces of at most ``limit`` characters, cut where it reads best: between paragraphs, lines, sentences, words.

    Joined again, the pieces hold everything but the white space at the cuts.
    """
    pieces = []
    rest = text.strip()
    while len(rest) > limit:
        cut = _best_cut(rest, limit)
        pieces.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*pieces, rest] if rest else pieces


def _best_cut(text: str, limit: int) -> int:
    """The last paragraph, line, sentence or word end in the second half of the window, in that order; else the limit itself."""
    for mark in ("\n\n", "\n", ". ", "! ", "? ", " "):
        place = text.rfind(mark, limit // 2, limit - len(mark) + 1)
        if place > 0:
            return place + len(mark)
    return limit
