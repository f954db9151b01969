"""Every error that celery-outbox raises, and the signals that a channel adapter raises to say what became of a send."""

import math
from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches

LONGEST_WISH_S = 366 * 24 * 3600
"""No adapter can wish for a longer pause."""


class OutboxError(Exception):
    """Base of every error of this library."""


class ConfigurationError(OutboxError):
    """Settings, a channel or a URL are wrong. The text says what to do."""


class MissingExtra(ConfigurationError, ModuleNotFoundError):
    """What is used needs a package that is not installed. The text names the extra that brings it."""


class UnknownChannel(ConfigurationError):
    """No channel of that name is registered where the channels are known."""


class InvalidMessage(OutboxError, ValueError):
    """The message cannot be stored or sent as it is; nothing was written."""


class UnserializablePayload(InvalidMessage):
    """The payload or the headers hold something that would not survive the round trip exactly."""


class PayloadTooLarge(InvalidMessage):
    """The encoded payload and headers are above the configured limit in bytes."""


class TransactionError(OutboxError):
    """The caller's transaction is closed, read-only, or of a kind that cannot be joined."""


class SchemaError(OutboxError):
    """The tables are absent, of an older release, or of a newer one."""


class DatabaseUnavailable(OutboxError):
    """The database cannot be reached, or what was found there is not a database."""


class DatabaseBusy(OutboxError):
    """The database was locked for longer than its busy timeout, or chose this transaction to end a deadlock; try again."""


class BrokerUnavailable(OutboxError):
    """The broker refused or did not answer in time; the messages stay where they are and nothing was charged."""


class MessageNotFound(OutboxError, LookupError):
    """No message with that id is kept."""


class OperationRefused(OutboxError):
    """An operator's action does not apply to a row in its present state; the text names the row and the reason."""


class DeliverySignal(Exception):
    """Base of what an adapter raises to say, in its own words, what became of a send."""


class RetryLater(DeliverySignal):
    """The send failed in passing.

    ``after`` (seconds or a timedelta) overrides the channel's backoff, for example with the provider's ``Retry-After``.
    """

    def __init__(self, reason: str, after: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.after_ms = _milliseconds(after)


class PermanentFailure(DeliverySignal):
    """The send can never succeed. ``destination_gone`` also closes the destination (a webhook's 410)."""

    def __init__(self, reason: str, *, destination_gone: bool = False) -> None:
        super().__init__(reason)
        self.destination_gone = destination_gone


class NotReady(DeliverySignal):
    """The adapter is not configured or not connected, and did not send: no attempt is charged."""

    def __init__(self, reason: str, after: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.after_ms = _milliseconds(after)


class OutcomeUnknown(DeliverySignal):
    """The request may have left and no answer came: the message may or may not have been delivered."""


class Suppressed(DeliverySignal):
    """The adapter decided not to send (a hook said no, nothing to say): recorded as cancelled, never as delivered."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for error texts: ``"; did you mean 'webhook'?"``, or the empty string when nothing is close."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _milliseconds(duration: float | timedelta | None) -> int | None:
    if duration is None:
        return None
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if math.isnan(seconds):  # from a header that was misread: no reason to fail in the midst of a failure
        return None
    return round(min(max(0, seconds), LONGEST_WISH_S) * 1000)
