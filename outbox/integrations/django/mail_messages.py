"""Django's mail messages as payloads, attribute by attribute: what cannot be stored is refused, and nothing is left out."""

import email
from collections.abc import Mapping, Sequence
from email import policy
from email.message import Message
from email.mime.base import MIMEBase
from email.utils import formatdate
from typing import Any

import django
from django.core.mail import DNS_NAME, EmailAlternative, EmailAttachment, EmailMessage, EmailMultiAlternatives, make_msgid
from django.utils.functional import Promise

from outbox.errors import InvalidMessage

_KINDS = {"EmailMultiAlternatives": EmailMultiAlternatives, "EmailMessage": EmailMessage}
"""The most derived first."""
_OF_THE_PROCESS = frozenset({"connection", "_connection"})
_OF_THE_CLASS = ("content_subtype", "mixed_subtype", "alternative_subtype", "encoding")
"""What a subclass may say of all its mails."""


def dump(mail: EmailMessage) -> dict[str, Any]:
    """The mail as a payload, with its ``Message-ID`` and ``Date`` settled: each attempt sends the same mail.

    Raises :class:`~outbox.errors.InvalidMessage` for a subclass that composes its mails itself.
    """
    if type(mail).message is not EmailMessage.message:
        raise InvalidMessage(f"{type(mail).__name__} has a message() of its own, which the worker would not know")
    attributes = {name: getattr(mail, name) for name in _OF_THE_CLASS if hasattr(mail, name)} | vars(mail)
    attributes = {name: value for name, value in attributes.items() if name not in _OF_THE_PROCESS}
    attributes["extra_headers"] = _settled(mail.extra_headers)
    attributes["attachments"] = [_dump_attachment(attachment) for attachment in mail.attachments]
    kind = next(name for name, known in _KINDS.items() if isinstance(mail, known))
    return {"kind": kind, "attributes": _plain(attributes)}


def load(payload: dict[str, Any]) -> EmailMessage:
    """The mail of a payload."""
    mail = _KINDS[payload["kind"]]()
    for name, value in payload["attributes"].items():
        setattr(mail, name, value)
    mail.attachments = [_load_attachment(attachment) for attachment in mail.attachments]
    if isinstance(mail, EmailMultiAlternatives):
        mail.alternatives = [EmailAlternative(*alternative) for alternative in mail.alternatives]
    return mail


def _settled(headers: Mapping[str, Any]) -> dict[str, Any]:
    given = {name.lower() for name in headers}
    settled = dict(headers)
    if "message-id" not in given:
        settled["Message-ID"] = make_msgid(domain=DNS_NAME)
    if "date" not in given:
        settled["Date"] = formatdate()
    return settled


def _dump_attachment(attachment: Any) -> dict[str, Any]:
    """A file (name, content, type), or a MIME part that the application made itself, as its bytes."""
    if isinstance(attachment, Message):
        return {"mime": attachment.as_bytes()}
    name, content, kind = (*attachment, None)[:3]
    if isinstance(content, EmailMessage):
        content = content.message()
    return {"file": [name, content.as_bytes() if isinstance(content, Message) else content, kind]}


def _load_attachment(stored: dict[str, Any]) -> Any:
    if "file" in stored:
        return EmailAttachment(*stored["file"])
    if django.VERSION >= (6, 0):  # Python's modern messages; those that Django took before are deprecated
        return email.message_from_bytes(stored["mime"], policy=policy.default)
    parsed = email.message_from_bytes(stored["mime"])
    part = MIMEBase(parsed.get_content_maintype(), parsed.get_content_subtype())
    for name in part.keys():  # noqa: SIM118 - a message is no mapping: it iterates over nothing else
        del part[name]
    for name, value in parsed.items():
        part[name] = value
    part.set_payload(parsed.get_payload())
    return part


def _plain(value: Any) -> Any:
    """Lazy translations as texts of the language that is active now, and named tuples as lists."""
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value
