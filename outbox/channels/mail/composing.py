"""From a letter to what goes over the wire: an envelope, and a message of RFC 5322 in MIME."""

import hashlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP, SMTPUTF8, EmailPolicy
from typing import Any

from outbox.channels.answer import one_line
from outbox.channels.attachments import UNKNOWN_TYPE, file_name, media_type
from outbox.channels.content import Media
from outbox.channels.mail.account import Account
from outbox.channels.mail.letter import Letter
from outbox.message import Message

_WIDTH = 78
# 8-bit text is encoded, so that the message passes servers and relays that know 7 bits alone.
_PLAIN = SMTP.clone(cte_type="7bit")
_INTERNATIONAL = SMTPUTF8


@dataclass(frozen=True, slots=True)
class Mail:
    """A message ready to be sent. ``international`` asks for the extension SMTPUTF8 (RFC 6531)."""

    sender: str
    recipients: Sequence[str]
    content: bytes = field(repr=False)
    international: bool


class _AsWritten(UnstructuredHeader):
    """A header of ASCII words that is folded between them.

    The standard library encodes a word longer than a line, and no mail program finds a thread by an encoded ``References``.
    """

    def fold(self: Any, *, policy: EmailPolicy) -> str:
        # The first word stays beside the name: a first line without any is legal and often misread.
        text = f"{self.name}:\0{self}"
        lines = textwrap.wrap(text, _WIDTH, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)
        return policy.linesep.join(lines).replace("\0", " ") + policy.linesep


_as_written = HeaderRegistry(default_class=_AsWritten, use_default_map=False)


def message_id(message: Message, domain: str) -> str:
    """The ``Message-ID`` of an outbox message, without angle brackets: the same at every attempt and replay.

    The row's own id where the application gave no idempotency key. A key of the application's is hashed, because it may tell
    more than recipients should know, and it is unique within its channel alone.
    """
    if message.idempotency_key is None:
        return f"{message.id}@{domain}"
    digest = hashlib.sha256(f"{message.channel}\0{message.idempotency_key}".encode()).hexdigest()
    return f"{digest[:40]}@{domain}"


def compose(letter: Letter, account: Account, message: Message) -> Mail:
    """The mail that carries ``letter``. Its media hold their data."""
    envelope = [account.bounce_address or account.sender, *letter.recipients]
    shown = [account.sender, letter.reply_address or account.reply_address or account.sender]
    international = not all(address.addr_spec.isascii() for address in (*envelope, *shown))
    mime = EmailMessage(policy=_INTERNATIONAL if international else _PLAIN)
    _write_headers(mime, letter, account, message)
    _write_body(mime, letter, account.message_id_domain)
    sender, *recipients = (address.addr_spec for address in envelope)
    return Mail(sender, list(dict.fromkeys(recipients)), mime.as_bytes(), international)


def _write_headers(mime: EmailMessage, letter: Letter, account: Account, message: Message) -> None:
    author = account.sender
    if letter.from_name is not None:
        author = Address(letter.from_name, addr_spec=author.addr_spec)
    mime["From"] = author
    mime["To"] = letter.to
    if letter.cc:
        mime["Cc"] = letter.cc
    if reply_address := letter.reply_address or account.reply_address:
        mime["Reply-To"] = reply_address
    if (subject := account.subject if letter.subject is None else letter.subject) is not None:
        mime["Subject"] = subject
    # When it was written, not when an attempt at last succeeded.
    mime["Date"] = datetime.fromtimestamp(message.queued_at / 1000, UTC)
    _write_ids(mime, "Message-ID", [message_id(message, account.message_id_domain)])
    if letter.reply_to is not None:
        _write_ids(mime, "In-Reply-To", [letter.reply_to])
    if earlier := [identity for identity in (letter.thread, letter.reply_to) if identity is not None]:
        _write_ids(mime, "References", list(dict.fromkeys(earlier)))
    for name, value in letter.headers.items():
        mime[name] = _as_written(name, value) if value.isascii() else value


def _write_ids(mime: EmailMessage, name: str, ids: Sequence[str]) -> None:
    mime[name] = _as_written(name, " ".join(f"<{identity}>" for identity in ids))


def _write_body(mime: EmailMessage, letter: Letter, domain: str) -> None:
    """Text, HTML as its alternative, what the HTML shows beside it, and everything else attached."""
    inline = letter.inline_names
    body: MIMEPart = mime
    if letter.html is None:
        mime.set_content(letter.text)
    elif letter.text:
        mime.set_content(letter.text)
        mime.add_alternative(letter.html_with(domain), subtype="html")
        body = list(mime.iter_parts())[-1]
    else:
        mime.set_content(letter.html_with(domain), subtype="html")
    for place, media in enumerate(letter.media):
        name = file_name(media, place)
        if name in inline:
            body.add_related(media.data, **_described(media, name), disposition="inline", cid=f"<{name}@{domain}>")
    for place, media in enumerate(letter.media):
        name = file_name(media, place)
        if name not in inline:
            mime.add_attachment(media.data, **_described(media, name))


def _described(media: Media, name: str) -> dict[str, Any]:
    main, _, sub = media_type(media).partition("/")
    if main in ("multipart", "message"):  # bytes of ours have no parts that a reader could look into
        main, sub = UNKNOWN_TYPE.split("/")
    described = [f"Content-Description: {one_line(media.caption)}"] if media.caption else []
    return {"maintype": main, "subtype": sub, "filename": name, "headers": described}
