"""When to try again, and when to stop: from what an attempt came to, to what the row becomes."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from outbox.lifecycle import Status
from outbox.message import ErrorClass, Message
from outbox.outcome import Deferred, Delivered, Outcome, Rejected, Retry, Unknown, Withheld

NON_FINAL = "non_final_recovery_skip"
ATTEMPTS_USED_UP = "attempts used up"
PERMANENT = "permanent failure"
UNKNOWN_OUTCOME = "unknown outcome"
PROCESS_DIED = "the worker process died during the send"
LEASE_RAN_OUT = "the lease ran out during the send: the worker died, or lost its database"
DEATHS = (PROCESS_DIED, LEASE_RAN_OUT)
"""The errors of attempts whose process is gone, perhaps because of them."""

RELEASED = "released"
"""The outcome, by name, of a row that was taken and then not begun."""

SHORTEST_DEFERRAL_MS = 5_000
SHORTEST_RESCUE_DELAY_MS = 5_000
LONGEST_RETRY_AFTER_MS = 3_600_000
"""However long a provider or an adapter asks to wait, its channel's TTL aside."""
LONGEST_BACKOFF_S = 366 * 24 * 3600


class OnUnknown(StrEnum):
    """What a channel wants when nobody knows whether a message was sent."""

    RESEND = "resend"
    RECONCILE = "reconcile"
    PARK = "park"


class DeadHead(StrEnum):
    """Whether a message that fails for good lets the later ones of its ordering key pass, or holds them back."""

    PASS = "pass"  # noqa: S105 - a verb, no secret
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses after the first, second, … failed attempt, in seconds; the last one repeats.

    ``jitter`` lengthens each by up to that share, so that messages that failed together do not return together.
    """

    delays_s: Sequence[float] = (5.0, 25.0, 120.0, 600.0)
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not self.delays_s or not all(0 <= delay <= LONGEST_BACKOFF_S for delay in self.delays_s):
            raise ValueError("backoff needs at least one pause, each a number of seconds of 0 or more, at most a year")
        if not 0 <= self.jitter <= 1:
            raise ValueError("jitter is a share between 0 and 1")

    def after(self, failed_attempts: int) -> int:
        """Milliseconds to wait after the n-th failed attempt (n counts from 1; 0 means no pause)."""
        if failed_attempts < 1:
            return 0
        delay = self.delays_s[min(failed_attempts, len(self.delays_s)) - 1]
        return round(delay * 1000 * (1 + random.uniform(0, self.jitter)))

    @property
    def longest_ms(self) -> int:
        """No pause is longer."""
        return math.ceil(max(self.delays_s) * 1000 * (1 + self.jitter))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What a channel says about failures."""

    backoff: Backoff = Backoff()
    max_attempts: int = 5
    on_unknown: OnUnknown = OnUnknown.RESEND
    dead_head: DeadHead = DeadHead.PASS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a row becomes: the settle writes it, and nothing else decides.

    ``delay_ms`` counts from the settle. ``charged`` is false where the attempt is given back. ``outcome_unknown`` is sticky:
    ``None`` leaves it as it was.
    """

    status: Status
    delay_ms: int = 0
    error: str | None = None
    error_class: ErrorClass | None = None
    reason: str | None = None
    charged: bool = True
    outcome_unknown: bool | None = None


_DELIVERED = Verdict(Status.DELIVERED)


def decide(outcome: Outcome, message: Message, policy: RetryPolicy) -> Verdict:
    """The verdict on an attempt of ``message``, whose ``attempt_count`` already counts it."""
    match outcome:
        case Delivered():
            return _DELIVERED
        case Withheld(reason):
            return Verdict(Status.CANCELLED, reason=reason)
        case Deferred(reason, after_ms):
            return _deferred(reason, after_ms, message)
        case Rejected(error):
            return _dead(error, ErrorClass.PERMANENT, PERMANENT, message, policy)
        case Retry(error, after_ms):
            return _retry(error, after_ms, message, policy)
        case Unknown(error, park):
            if park:
                policy = replace(policy, on_unknown=OnUnknown.PARK)
            return unknown(error, message, policy, delay_ms=policy.backoff.after(message.attempt_count))
        case _:
            assert_never(outcome)


def unknown(error: str, message: Message, policy: RetryPolicy, *, delay_ms: int) -> Verdict:
    """The verdict on an attempt of which nobody knows whether it was sent; another one, if any, is due after ``delay_ms``."""
    if not message.is_final:
        return Verdict(Status.FAILED_TERMINAL, 0, error, ErrorClass.UNKNOWN, NON_FINAL, outcome_unknown=True)
    used_up = message.attempt_count >= _allowed(message, policy)
    if policy.on_unknown is OnUnknown.PARK or (used_up and policy.on_unknown is OnUnknown.RECONCILE):
        return Verdict(Status.PARKED, 0, error, ErrorClass.UNKNOWN, UNKNOWN_OUTCOME, outcome_unknown=True)
    if used_up:
        return replace(_dead(error, ErrorClass.UNKNOWN, ATTEMPTS_USED_UP, message, policy), outcome_unknown=True)
    return Verdict(Status.FAILED_RETRYABLE, delay_ms, error, ErrorClass.UNKNOWN, outcome_unknown=True)


def released(message: Message) -> Verdict:
    """The verdict on a row that was taken and whose send was not begun: due again at once, nothing charged."""
    return Verdict(_untried(message), charged=False)


def rescue(message: Message, policy: RetryPolicy, *, proven_dead: bool) -> Verdict:
    """The verdict on a row whose sender is gone.

    Found by time, the next attempt waits long enough that a live worker whose settle waits for a lock settles first. With
    the process proven dead nobody can be late, and a first death says nothing about the destination: no pause.
    """
    if proven_dead:
        error, delay_ms = PROCESS_DIED, policy.backoff.after(message.attempt_count - 1)
    else:
        error = LEASE_RAN_OUT
        delay_ms = max(policy.backoff.after(message.attempt_count), SHORTEST_RESCUE_DELAY_MS)
    return unknown(error, message, policy, delay_ms=delay_ms)


def deferral_ms(after_ms: int | None) -> int:
    """How long a channel that is not ready, and the row that met it, wait at least."""
    return min(max(after_ms or 0, SHORTEST_DEFERRAL_MS), LONGEST_RETRY_AFTER_MS)


def _deferred(reason: str, after_ms: int | None, message: Message) -> Verdict:
    return Verdict(_untried(message), deferral_ms(after_ms), reason=reason, charged=False)


def _untried(message: Message) -> Status:
    """Where a row stands whose present attempt is given back."""
    return Status.QUEUED if message.attempt_count <= 1 else Status.FAILED_RETRYABLE


def _retry(error: str, after_ms: int | None, message: Message, policy: RetryPolicy) -> Verdict:
    if not message.is_final:
        return Verdict(Status.FAILED_TERMINAL, 0, error, ErrorClass.TRANSIENT, NON_FINAL)
    if message.attempt_count >= _allowed(message, policy):
        if message.outcome_unknown and policy.on_unknown is OnUnknown.RECONCILE:
            # A dead letter would say that it was not sent, and an earlier attempt may have sent it.
            return Verdict(Status.PARKED, 0, error, ErrorClass.TRANSIENT, UNKNOWN_OUTCOME)
        return _dead(error, ErrorClass.TRANSIENT, ATTEMPTS_USED_UP, message, policy)
    pause_ms = policy.backoff.after(message.attempt_count)
    if after_ms is not None:
        pause_ms = min(after_ms, LONGEST_RETRY_AFTER_MS)
    return Verdict(Status.FAILED_RETRYABLE, pause_ms, error, ErrorClass.TRANSIENT)


def _dead(error: str, error_class: ErrorClass, reason: str, message: Message, policy: RetryPolicy) -> Verdict:
    if not message.is_final:
        reason = NON_FINAL
    elif policy.dead_head is DeadHead.BLOCK and message.ordering_key is not None:
        return Verdict(Status.PARKED, 0, error, error_class, reason)
    return Verdict(Status.FAILED_TERMINAL, 0, error, error_class, reason)


def _allowed(message: Message, policy: RetryPolicy) -> int:
    return message.max_attempts if message.max_attempts is not None else policy.max_attempts
