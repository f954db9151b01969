"""What apprise says of a send only to its log, and what that means for the message.

apprise answers yes or no. Why it says no stands in its log: a status, an exception, sometimes with the URL and the payload.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from outbox.channels.answer import one_line, signal_of
from outbox.errors import DeliverySignal, OutcomeUnknown, PermanentFailure, RetryLater
from outbox.policy.classification import classify_status, storable

_LOGGER = logging.getLogger("apprise")
# It tells the path of every request, and that is where many services have their tokens.
_BELOW = logging.getLogger("urllib3.connectionpool")
_LONGEST_REASON = 500
_STATUS = re.compile(r"\berror=(\d{3})\b")
_REQUEST = re.compile(r"\bURL: ")
_SENT = re.compile(r"Sent ")
# As `requests` and `urllib3` put them. Other failures of TLS and connections may come from the midst of a request.
_NOT_SENT = re.compile(
    r"Caused by (NewConnectionError|NameResolutionError|ConnectTimeoutError|SSLError\(SSLCertVerificationError)"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One record of the log."""

    level: int
    text: str


_overheard: ContextVar[list[Line] | None] = ContextVar("outbox_apprise_log", default=None)


@contextmanager
def overheard() -> Iterator[list[Line]]:
    """Take what apprise logs in this context, at every level, away from the log: it may hold payloads and tokens."""
    lines: list[Line] = []
    _listen()
    token = _overheard.set(lines)
    try:
        yield lines
    finally:
        _overheard.reset(token)


def failure(lines: Sequence[Line], confidential: Iterable[str], *, several_requests: bool) -> DeliverySignal:
    """The signal for a send to which apprise said no.

    ``several_requests`` says that the service may have been asked more than once for this message, as it is for attachments:
    then a part may have been taken, and a part that was taken is never sent again.
    """
    told = _told(lines, confidential)
    signal = _judged(lines, told)
    requests = sum(1 for line in lines if _REQUEST.search(line.text))
    taken_in_part = any(_SENT.match(line.text) for line in lines) or (several_requests and requests > 1)
    if taken_in_part and not isinstance(signal, PermanentFailure):
        return PermanentFailure(f"the service may have taken a part of it: {told}")
    return signal


def _judged(lines: Sequence[Line], told: str) -> DeliverySignal:
    statuses = {int(status) for line in lines if line.level >= logging.WARNING for status in _STATUS.findall(line.text)}
    if len(statuses) == 1 and (status := statuses.pop()) >= 300:
        return signal_of(classify_status(status, told))
    if any(_NOT_SENT.search(line.text) for line in lines):
        return RetryLater(told)
    return OutcomeUnknown(told)


def _told(lines: Sequence[Line], confidential: Iterable[str]) -> str:
    """The warnings in one line. Details, which may hold anything, are left out."""
    said = "; ".join(line.text for line in lines if line.level >= logging.WARNING) or "apprise gave no reason"
    for secret in sorted(confidential, key=len, reverse=True):
        said = said.replace(secret, "[removed]")
    return storable(one_line(said), _LONGEST_REASON)


class _Ear(logging.Filter):
    """Keeps the records of our sends for us, and lets those of the application's own through as its settings say."""

    level = logging.NOTSET

    def filter(self, record: logging.LogRecord) -> bool:
        lines = _overheard.get()
        if lines is None:
            return record.levelno >= (self.level or logging.getLogger().getEffectiveLevel())
        lines.append(Line(record.levelno, record.getMessage()))
        return False


_ear = _Ear()


def _listen() -> None:
    """Let apprise make records of every level, whatever the application has set since the last send."""
    _LOGGER.addFilter(_ear)  # once, however often it is called
    _BELOW.addFilter(_not_ours)
    if _LOGGER.level != logging.DEBUG:
        _ear.level = _LOGGER.level
        _LOGGER.setLevel(logging.DEBUG)


def _not_ours(record: logging.LogRecord) -> bool:
    return _overheard.get() is None
