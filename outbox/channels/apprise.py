"""The ``apprise`` channel: notifications through the services that apprise knows (https://github.com/caronc/apprise)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from outbox.channels import content
from outbox.channels.base import Channel
from outbox.channels.content import Content, Media
from outbox.errors import ConfigurationError, InvalidMessage, OutcomeUnknown, PermanentFailure, did_you_mean
from outbox.extras import extra
from outbox.message import Attempt, Message, NewMessage, Receipt

with extra("apprise", "the channel apprise"):
    from apprise import Apprise as Notifier
    from apprise import NotifyBase, NotifyFormat, NotifyType
    from apprise.attachment.file import AttachFile

    from outbox.channels import apprise_log
    from outbox.channels.apprise_services import ASSET, Service, read_services
    from outbox.channels.attachments import check_media, file_name, media_type

_OWN_FIELDS = frozenset({"title", "type", "format"})
_CHAT_FIELDS = frozenset({"text", "media", "reply_to", "silent"})
_LARGEST_FILE = 25_000_000
_LONGEST_TITLE = 500


@dataclass(frozen=True, slots=True)
class _Notification:
    said: Content
    title: str
    type: NotifyType
    format: NotifyFormat

    @property
    def body(self) -> str:
        """The text, and the media that have an address of their own: nobody fetches what users name from in here."""
        links = [" ".join(part for part in (media.caption, media.url) if part) for media in self.said.media if media.url]
        return "\n".join(part for part in (self.said.text, *links) if part)

    @property
    def files(self) -> list[Media]:
        return [media for media in self.said.media if media.data is not None]


class Apprise(Channel):
    """Notifies the service that the target names. ``services`` are URLs of apprise by name, one place each.

    With ``accounts``, tables of such URLs, a message's account id chooses the table. ``connect_timeout`` and
    ``read_timeout`` are seconds for each request that a service makes; together they stay below ``timeout``.
    """

    name = "apprise"
    concurrency = 4
    ttl = 86_400.0
    secret_options = ("services", "accounts")

    def __init__(
        self,
        name: str | None = None,
        *,
        services: Mapping[str, str] | None = None,
        accounts: Mapping[str, Mapping[str, str]] | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 20.0,
        **policy: Any,
    ) -> None:
        super().__init__(name, **policy)
        self._connect_timeout_s, self._read_timeout_s = connect_timeout, read_timeout
        try:
            self._check_timeouts()
            self._services = read_services(services, accounts)
        except ValueError as error:
            raise ConfigurationError(f"channel {self.name!r}: {error}") from None

    def check_message(self, message: NewMessage) -> None:
        """Refuse a name that is not configured, and what the service cannot express."""
        super().check_message(message)
        try:
            _notification(message.payload, self._service(message.account_id, message.target))
        except InvalidMessage as refused:
            raise InvalidMessage(f"channel {self.name!r}: {refused}") from None

    def send_final(self, message: Message, attempt: Attempt) -> Receipt:
        """Notify. A new plugin for each message: one that is kept sleeps between two, in the time of the second."""
        try:
            service = self._service(message.account_id, message.target)
            notification = _notification(message.payload, service)
        except InvalidMessage as refused:
            raise PermanentFailure(str(refused)) from None
        with apprise_log.overheard() as lines:
            plugin = service.plugin()
            plugin.socket_connect_timeout, plugin.socket_read_timeout = self._connect_timeout_s, self._read_timeout_s
            accepted = _notified(plugin, notification)
        if not accepted:
            raise apprise_log.failure(lines, service.confidential, several_requests=bool(notification.files))
        return Receipt(None, {"service": str(plugin.service_name)})

    def _service(self, account_id: str, target: str) -> Service:
        if account_id not in self._services:
            raise InvalidMessage(f"no account {account_id!r} is configured{did_you_mean(account_id, self._services)}")
        services = self._services[account_id]
        if target not in services:
            known = ", ".join(sorted(services))
            hint = did_you_mean(target, services)
            raise InvalidMessage(f"the target is not the name of a service{hint} (configured: {known})")
        return services[target]

    def _check_timeouts(self) -> None:
        for option in (self._connect_timeout_s, self._read_timeout_s):
            if type(option) not in (int, float) or not 0 < option < math.inf:
                raise ValueError(f"connect_timeout and read_timeout must be finite numbers above 0, not {option!r}")
        if self._connect_timeout_s + self._read_timeout_s >= self.timeout:
            raise ValueError("connect_timeout and read_timeout together must be less than timeout")


def _notification(payload: Any, service: Service) -> _Notification:
    said, own = content.read_with_own(payload, own=_OWN_FIELDS, shared=_CHAT_FIELDS)
    for media in said.media:
        check_media(media, longest=_LARGEST_FILE)
        if media.data is not None and not service.takes_files:
            raise InvalidMessage("the service takes no files, and the payload has media as data")
    if not (said.text.strip() or said.media):
        raise InvalidMessage("there is neither text nor media to send")
    title = own.get("title", "")
    if not isinstance(title, str) or len(title) > _LONGEST_TITLE:
        raise InvalidMessage(f"title must be a text of at most {_LONGEST_TITLE} characters")
    return _Notification(
        said,
        title,
        _member(NotifyType, "type", own.get("type", "info")),
        _member(NotifyFormat, "format", own.get("format", "text")),
    )


def _member(kind: Any, name: str, value: object) -> Any:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(repr(member.value) for member in kind)
        raise InvalidMessage(f"{name} must be one of {allowed}, not {str(value)[:50]!r}") from None


def _notified(plugin: NotifyBase, notification: _Notification) -> bool:
    notifier = Notifier(asset=ASSET)
    notifier.add(plugin)
    with TemporaryDirectory() as directory:
        files = [_written(media, place, directory) for place, media in enumerate(notification.files)]
        try:
            return bool(
                notifier.notify(
                    body=notification.body,
                    title=notification.title,
                    notify_type=notification.type,
                    body_format=notification.format,
                    attach=files or None,
                )
            )
        except Exception as error:  # a plugin's own, from anywhere in the midst of it, perhaps with the URL in its text
            raise OutcomeUnknown(f"apprise failed: {type(error).__name__}") from None


def _written(media: Media, place: int, directory: str) -> AttachFile:
    """A file on disk: several plugins of apprise cannot read one from memory."""
    path = Path(directory, f"file{place}")
    path.write_bytes(media.data or b"")
    return AttachFile(str(path), name=file_name(media, place), mimetype=media_type(media))  # type: ignore[no-untyped-call]
