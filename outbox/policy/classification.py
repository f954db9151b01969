"""From an exception to an outcome: first by its type, then by an HTTP status it carries, then by its text."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import assert_never

from outbox.codec import DecodeError
from outbox.errors import NotReady, OutcomeUnknown, PermanentFailure, RetryLater, Suppressed
from outbox.outcome import Deferred, Outcome, Rejected, Retry, Unknown, Withheld
from outbox.policy import foreign

PERMANENT_STATUSES = frozenset({400, 401, 403, 404, 405, 410, 413, 422})
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 503})

LONGEST_ERROR = 4_000

_PERMANENT_TEXT = re.compile(
    r"no conversation reference found|chat not found|user not found|bot was blocked by the user|forbidden: bot was kicked"
    r"|chat_id is empty|recipient is not a valid|ambiguous .*recipient|user .*not in room|bot .*not .*member"
    r"|message is too long|invalid form body|bad request",
    re.IGNORECASE | re.DOTALL,
)
_NOT_CONFIGURED_TEXT = re.compile(r"outbound not configured for channel", re.IGNORECASE)


def classify(error: BaseException) -> Outcome:
    """What a send that raised ``error`` came to.

    An exception that says nothing of itself is transient: adapters that cannot tell whether bytes left raise
    :class:`~outbox.OutcomeUnknown`. A time-out or reset counts as unknown where it may come from the middle of a request.
    """
    text = describe(error)
    match error:
        case RetryLater():
            return Retry(text, error.after_ms)
        case PermanentFailure():
            return Rejected(text, error.destination_gone)
        case NotReady():
            return Deferred(text, error.after_ms)
        case OutcomeUnknown():
            return Unknown(text)
        case Suppressed():
            return Withheld(text)
        case DecodeError():
            return Rejected(f"invalid payload: {storable(str(error))}")
        case _:
            return _classify_foreign(error, text)


def classify_status(status: int, text: str, retry_after_ms: int | None = None) -> Outcome:
    """What an answer with this HTTP status, which is no success, came to."""
    if status in PERMANENT_STATUSES:
        return Rejected(text, destination_gone=status == 410)
    if status in TRANSIENT_STATUSES or status == 501:
        return Retry(text, retry_after_ms)
    if status >= 500:
        return Unknown(text)
    if 300 <= status < 500:
        return Rejected(text)
    return Unknown(text)


def classify_text(text: str) -> Outcome:
    """The fallback for adapters that raise no typed error."""
    if _NOT_CONFIGURED_TEXT.search(text):
        return Deferred(text)
    return Rejected(text) if _PERMANENT_TEXT.search(text) else Retry(text)


def retry_after_ms(header: str | None, now_ms: int) -> int | None:
    """Milliseconds that a ``Retry-After`` header asks for (RFC 9110 §10.2.3: seconds or a date); ``None`` when unreadable."""
    if not header:
        return None
    value = header.strip()
    if (seconds := _seconds(value)) is not None:
        return seconds * 1000
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, round((moment - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds() * 1000))


def describe(error: BaseException) -> str:
    """A text for ``last_error``: never empty, bounded, and storable in every database."""
    text = str(error).strip() or type(error).__name__
    if not isinstance(error, RetryLater | PermanentFailure | NotReady | OutcomeUnknown | Suppressed):
        text = f"{type(error).__name__}: {text}" if str(error).strip() else text
    return storable(text)


def storable(text: str, limit: int = LONGEST_ERROR) -> str:
    """``text`` without NUL and lone surrogates, which PostgreSQL and UTF-8 refuse, and no longer than ``limit`` characters."""
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _classify_foreign(error: BaseException, text: str) -> Outcome:
    status = foreign.status_of(error)
    if status is not None:
        seconds = _seconds(foreign.retry_after_of(error) or "")  # a date would need a clock
        return classify_status(status, text, None if seconds is None else seconds * 1000)
    match foreign.stage_of(error):
        case foreign.Stage.NOT_SENT:
            return Retry(text)
        case foreign.Stage.PERHAPS_SENT:
            return Unknown(text)
        case foreign.Stage.UNTOLD:
            return classify_text(text)
        case stage:
            assert_never(stage)


def _seconds(value: str) -> int | None:
    return int(value[:12]) if value.isascii() and value.isdigit() else None
