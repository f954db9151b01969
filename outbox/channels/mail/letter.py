"""A letter: what a message's payload says, read and checked before anything is built of it.

A payload is a text, or a dictionary of what every chat message may hold (``text``, ``media``, ``reply_to``, ``thread_id``,
``silent``) and of what mail alone has (``subject``, ``html``, ``cc``, ``bcc``, ``from_name``, ``reply_address``, ``headers``).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.headerregistry import Address
from typing import Any

from outbox.channels import content
from outbox.channels.attachments import check_media, file_name, media_type
from outbox.channels.content import Content, Media
from outbox.channels.mail.addresses import LONGEST_LIST, has_controls, read_address, read_addresses
from outbox.errors import InvalidMessage, did_you_mean

MOST_RECIPIENTS = 100
"""Every server takes as many in one transaction (RFC 5321 §4.5.3.1.8)."""

_MAIL_FIELDS = frozenset({"subject", "html", "cc", "bcc", "from_name", "reply_address", "headers"})
_CHAT_FIELDS = frozenset({"text", "media", "reply_to", "thread_id", "silent"})
_SET_BY_US = frozenset(
    {"from", "sender", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "in-reply-to", "references",
     "mime-version", "return-path", "received"}
)  # fmt: skip
_LONGEST_SUBJECT = 900
_LONGEST_LINE = 900
"""RFC 5322 §2.1.1 allows 998 characters, with the header's name."""
_HEADER_NAME = re.compile(r"[!-9;-~]{1,70}")
_MESSAGE_ID = re.compile(r"<?([^\s<>@\x00-\x20\x7f-\U0010ffff]{1,400}@[^\s<>@\x00-\x20\x7f-\U0010ffff]{1,400})>?")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_INLINE = re.compile(r"""(?<=["'(=])cid:([^"'()\s>]+)""")
_INLINE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail to be sent. ``reply_to`` and ``thread`` are ids of messages, without angle brackets."""

    to: Sequence[Address]
    cc: Sequence[Address] = ()
    bcc: Sequence[Address] = ()
    from_name: str | None = None
    reply_address: Address | None = None
    subject: str | None = None
    text: str = ""
    html: str | None = None
    media: Sequence[Media] = ()
    reply_to: str | None = None
    thread: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def recipients(self) -> list[Address]:
        """Everybody who gets it."""
        return [*self.to, *self.cc, *self.bcc]

    @property
    def inline_names(self) -> list[str]:
        """Names of the media that the HTML shows in its midst, each as ``cid:NAME``."""
        return list(dict.fromkeys(_INLINE.findall(self.html or "")))

    def html_with(self, domain: str) -> str:
        """The HTML, with the ids that its media get: ``cid:NAME@domain`` (RFC 2392)."""
        return _INLINE.sub(rf"cid:\1@{domain}", self.html or "")


def read(target: str, payload: Any, *, longest: int) -> Letter:
    """The letter that ``payload`` says, to the addresses in ``target``; attachments take at most ``longest`` bytes.

    Raises :class:`~outbox.errors.InvalidMessage` for what no mail can express; its text holds no address.
    """
    said, own = content.read_with_own(payload, own=_MAIL_FIELDS, shared=_CHAT_FIELDS)
    try:
        letter = _letter(target, said, own)
    except InvalidMessage:
        raise
    except ValueError as wrong:
        raise InvalidMessage(str(wrong)) from None
    _check(letter, longest)
    return letter


def _letter(target: str, said: Content, own: Mapping[str, Any]) -> Letter:
    return Letter(
        to=read_addresses(target, "the target"),
        cc=_copies("cc", own),
        bcc=_copies("bcc", own),
        from_name=_line("from_name", own, _LONGEST_SUBJECT),
        reply_address=read_address(_text("reply_address", own), "reply_address") if "reply_address" in own else None,
        subject=_line("subject", own, _LONGEST_SUBJECT),
        text=said.text,
        html=_text("html", own) if "html" in own else None,
        media=said.media,
        reply_to=_message_id("reply_to", said.reply_to),
        thread=_message_id("thread_id", said.thread_id),
        headers=_headers(own.get("headers", {})),
    )


def _check(letter: Letter, longest: int) -> None:
    names = [file_name(media, place) for place, media in enumerate(letter.media)]
    captions = [media.caption or "" for media in letter.media]
    if _LONE_SURROGATE.search("".join([letter.text, letter.html or "", *names, *captions])):
        raise InvalidMessage("a text holds half a character (a lone surrogate)")
    if not (letter.text.strip() or (letter.html or "").strip() or letter.media):
        raise InvalidMessage("there is nothing to send: neither text, html nor media")
    if len(letter.recipients) > MOST_RECIPIENTS:
        raise InvalidMessage(f"{len(letter.recipients)} recipients are more than the {MOST_RECIPIENTS} of one message")
    for media in letter.media:
        check_media(media, longest=longest)
    if any(map(has_controls, names)):  # escaped in the path of a URL
        raise InvalidMessage("the name of a media item holds a control character")
    _check_inline(letter, names)


def _check_inline(letter: Letter, names: Sequence[str]) -> None:
    for name in letter.inline_names:
        if not _INLINE_NAME.fullmatch(name):
            raise InvalidMessage(f"the html shows 'cid:{name}', and such names have letters, digits, '.', '_' and '-'")
        if names.count(name) != 1:
            raise InvalidMessage(
                f"the html shows 'cid:{name}', and {names.count(name)} media have that name{did_you_mean(name, names)}"
            )
        if media_type(letter.media[names.index(name)]).startswith(("text/", "multipart/", "message/")):
            raise InvalidMessage(f"the html shows 'cid:{name}', which is no picture or other binary file")


def _copies(name: str, own: Mapping[str, Any]) -> tuple[Address, ...]:
    """A list in one text, or a list of texts."""
    given = own.get(name, ())
    if not isinstance(given, str | list | tuple) or not all(isinstance(item, str) for item in given):
        raise ValueError(f"{name} must be a text or a list of texts")
    items = [given] if isinstance(given, str) else given
    if (size := sum(map(len, items))) > LONGEST_LIST:
        raise ValueError(f"{name} has {size} characters, and may have {LONGEST_LIST}")
    return tuple(address for item in items for address in read_addresses(item, name))


def _text(name: str, own: Mapping[str, Any]) -> str:
    value = own[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is a {type(value).__name__}, and must be text")
    return value


def _line(name: str, own: Mapping[str, Any], longest: int) -> str | None:
    """Text that stands in a header."""
    if name not in own:
        return None
    value = _text(name, own)
    if has_controls(value):
        raise ValueError(f"{name} holds a line break or another control character")
    if len(value) > longest:
        raise ValueError(f"{name} has {len(value)} characters, and may have {longest}")
    return value


def _headers(given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ValueError("headers must be a dictionary of names and texts")
    for name, value in given.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{str(name)[:70]!r} is not the name of a header")
        if name.lower() in _SET_BY_US or name.lower().startswith(("content-", "resent-")):
            raise ValueError(f"headers may not hold {name!r}, which the channel sets itself")
        if not isinstance(value, str) or has_controls(value) or max(map(len, value.split()), default=0) > _LONGEST_LINE:
            raise ValueError(f"the header {name!r} must be text without line breaks, and its words no longer than a line")
    return dict(given)


def _message_id(name: str, given: str | int | None) -> str | None:
    if given is None:
        return None
    match = _MESSAGE_ID.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError(f"{name} must be the Message-ID of a mail, such as '<1f0c@example.com>'")
    return match[1]
