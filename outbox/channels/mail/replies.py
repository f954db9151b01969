"""What a server's reply means for the message: by the first digit of its code (RFC 5321 §4.2.1), with the exceptions."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outbox.channels.answer import one_line
from outbox.errors import DeliverySignal, NotReady, OutcomeUnknown, PermanentFailure, RetryLater
from outbox.policy.classification import storable

CLOSING = 421
"""The server closes the connection, in answer to whatever was said."""
GREYLISTED_S = 300.0
"""Greylisting servers take a message that comes back after some minutes (RFC 6647 §5: one minute to one day)."""

_BUSY_S = 60.0
_GREYLISTED = frozenset({450, 451})
_LOGIN_WANTED = frozenset({530, 534, 535, 538})
_TOO_MANY_RECIPIENTS = 552
_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Refusal:
    """A recipient whom the server does not take."""

    recipient: str
    code: int
    text: str

    @property
    def is_transient(self) -> bool:
        """Whether it may be taken later. 552 in answer to RCPT says of old that there are too many (RFC 5321 §4.5.3.1.10)."""
        return self.code < 500 or self.code == _TOO_MANY_RECIPIENTS


def refused(code: int, text: str, stage: str, pause_s: float) -> DeliverySignal:
    """The signal for a message that the server does not take; ``pause_s`` is the channel's own pause after this attempt."""
    told = f"{stage} refused: {code} {text}"
    if code in _LOGIN_WANTED:
        return NotReady(told)
    if code == CLOSING:
        return RetryLater(told, max(_BUSY_S, pause_s))
    if code in _GREYLISTED:
        return RetryLater(told, max(GREYLISTED_S, pause_s))
    if 400 <= code < 500:
        return RetryLater(told)
    if 500 <= code < 600:
        return PermanentFailure(told)
    # Neither yes nor no: after the content nobody knows what it means.
    return OutcomeUnknown(told) if stage == "content" else RetryLater(told)


def turned_away(code: int, text: str, stage: str, pause_s: float) -> DeliverySignal:
    """The signal for a server that does not talk to us: that says nothing about the message, which is kept."""
    if code == CLOSING or (400 <= code < 500 and stage != "login"):
        return RetryLater(f"{stage} refused: {code} {text}", max(_BUSY_S, pause_s))
    return NotReady(f"{stage} refused: {code} {text}")


def all_refused(refusals: Sequence[Refusal], pause_s: float) -> DeliverySignal:
    """The signal for a message of which nobody was taken: sent again if one of them may be taken later."""
    told = "every recipient refused: " + "; ".join(dict.fromkeys(f"{refusal.code} {refusal.text}" for refusal in refusals))
    later = [refusal for refusal in refusals if refusal.is_transient]
    if not later:
        return PermanentFailure(storable(told))
    greylisted = any(refusal.code in _GREYLISTED for refusal in later)
    return RetryLater(storable(told), max(GREYLISTED_S, pause_s) if greylisted else None)


def told(text: str, confidential: Iterable[str]) -> str:
    """A server's words in one line, without addresses and credentials that it may have echoed."""
    line = one_line(text)
    for secret in sorted(confidential, key=len, reverse=True):
        line = re.sub(re.escape(secret), "[removed]", line, flags=re.IGNORECASE)
    return storable(line, _LONGEST_TEXT)
