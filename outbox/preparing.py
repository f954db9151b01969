"""From what an application hands over to a row: checked at the door, so that nothing half-right is ever stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeGuard

import uuid_utils

from outbox import codec
from outbox.channels.base import Channel
from outbox.channels.registry import ChannelRegistry
from outbox.errors import ConfigurationError, InvalidMessage, PayloadTooLarge, UnserializablePayload
from outbox.message import DispatchKind, NewMessage
from outbox.policy.texts import LONGEST_TEXTS, check_text
from outbox.store.records import NewRow

DEFAULT_PAYLOAD_LIMIT = 256 * 1024
LOWEST_PRIORITY, HIGHEST_PRIORITY = -100, 100
LONGEST_SCHEDULE_S = 10 * 366 * 24 * 3600
_DISPATCH_KINDS = frozenset(map(str, DispatchKind))


@dataclass(frozen=True, slots=True)
class Preparer:
    """Turns messages into rows for one outbox. Where ``channels`` are not complete, other names are taken on trust."""

    channels: ChannelRegistry
    payload_limit: int = DEFAULT_PAYLOAD_LIMIT

    def __post_init__(self) -> None:
        if type(self.payload_limit) is not int or self.payload_limit < 1:
            raise ConfigurationError(f"payload_limit must be a whole number of bytes above 0, not {self.payload_limit!r}")

    def rows(self, messages: Sequence[NewMessage]) -> list[NewRow]:
        """The rows to insert. Raises :class:`~outbox.errors.UnknownChannel` or :class:`~outbox.errors.InvalidMessage`."""
        return [self._row(message) for message in messages]

    def _row(self, message: NewMessage) -> NewRow:
        if not isinstance(message, NewMessage):
            raise InvalidMessage(f"a message to enqueue is an outbox.NewMessage, not a {type(message).__name__}")
        for name in LONGEST_TEXTS:
            check_text(name, getattr(message, name))
        channel = self.channels.get(message.channel) if self.channels.complete else self.channels.find(message.channel)
        if channel is not None:
            channel.check_message(message)
        ordering_key = message.ordering_key
        if ordering_key is None and channel is not None:
            ordering_key = channel.ordering_key_for(message)
            check_text("ordering_key", ordering_key)
        payload, headers = self._encode(message)
        expires_in_ms = _duration_ms("expires_in", message.expires_in, positive=True)
        return NewRow(
            id=str(uuid_utils.uuid7()),
            channel=message.channel,
            account_id=message.account_id,
            target=message.target,
            turn_id=message.turn_id,
            dispatch_kind=_dispatch_kind(message.dispatch_kind),
            payload=payload,
            headers=headers,
            ordering_key=ordering_key,
            priority=_whole("priority", message.priority, LOWEST_PRIORITY, HIGHEST_PRIORITY),
            idempotency_key=message.idempotency_key,
            max_attempts=_max_attempts(message, channel),
            delay_ms=_duration_ms("delay", message.delay) or 0,
            due_at=_epoch_ms(message),
            ttl_ms=expires_in_ms if expires_in_ms is not None or channel is None else channel.ttl_ms,
            stamped=channel is not None,
        )

    def _encode(self, message: NewMessage) -> tuple[str | None, str | None]:
        if message.headers is not None and not isinstance(message.headers, dict):
            raise InvalidMessage(f"headers must be a dictionary, not {type(message.headers).__name__}")
        try:
            payload, headers = codec.encode(message.payload), codec.encode(message.headers or None)
        except codec.EncodeError as error:
            raise UnserializablePayload(f"the payload or headers cannot be stored: {error}") from error
        size = len(payload or "") + len(headers or "")
        if size > self.payload_limit:
            raise PayloadTooLarge(f"payload and headers take {size} bytes; the limit is {self.payload_limit}")
        return payload, headers


def _dispatch_kind(kind: object) -> str | None:
    if kind is None:
        return None
    if not isinstance(kind, str) or kind not in _DISPATCH_KINDS:
        raise InvalidMessage(f"dispatch_kind must be 'final', 'block' or 'tool', not {kind!r}")
    return str(kind)


def _max_attempts(message: NewMessage, channel: Channel | None) -> int | None:
    if message.max_attempts is not None:
        return _whole("max_attempts", message.max_attempts, 1, 1_000)
    return channel.max_attempts if channel is not None else None


def _whole(name: str, value: object, lowest: int, highest: int) -> int:
    if type(value) is not int or not lowest <= value <= highest:
        raise InvalidMessage(f"{name} must be a whole number from {lowest} to {highest}, not {value!r}")
    return value


def _duration_ms(name: str, value: float | timedelta | None, *, positive: bool = False) -> int | None:
    if value is None:
        return None
    seconds: object = value.total_seconds() if isinstance(value, timedelta) else value
    if not _is_duration(seconds, positive=positive):
        bounds = "above 0" if positive else "of 0 or more"
        raise InvalidMessage(f"{name} must be a number of seconds {bounds}, at most ten years, not {value!r}")
    return max(round(seconds * 1000), int(positive))


def _is_duration(seconds: object, *, positive: bool) -> TypeGuard[float]:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return False
    return 0 <= seconds <= LONGEST_SCHEDULE_S and not (positive and seconds == 0)  # NaN is in no range


def _epoch_ms(message: NewMessage) -> int | None:
    moment: object = message.due_at
    if moment is None:
        return None
    if message.delay is not None:
        raise InvalidMessage("a message takes either delay or due_at")
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidMessage(f"due_at must be a datetime with a time zone, not {moment!r}")
    if not 2000 <= moment.year <= 2200:
        raise InvalidMessage(f"due_at is {moment.isoformat()}, which is no time at which anything will be sent")
    return round(moment.timestamp() * 1000)
