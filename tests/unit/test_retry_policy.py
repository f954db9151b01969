"""What a row becomes: attempts, pauses, non-final messages, unknown outcomes, dead heads."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.errors import NotReady, RetryLater
from outbox.lifecycle import TERMINAL, Status
from outbox.message import ErrorClass
from outbox.outcome import Deferred, Delivered, Outcome, Rejected, Retry, Unknown, Withheld
from outbox.policy import retry
from outbox.policy.retry import Backoff, DeadHead, OnUnknown, RetryPolicy
from tests.factories import message

PLAIN = Backoff(jitter=0)
POLICY = RetryPolicy(backoff=PLAIN)
PARK = RetryPolicy(backoff=PLAIN, on_unknown=OnUnknown.PARK)
RECONCILE = RetryPolicy(backoff=PLAIN, on_unknown=OnUnknown.RECONCILE)
BLOCK = RetryPolicy(backoff=PLAIN, dead_head=DeadHead.BLOCK)

OUTCOMES = [
    Delivered(), Retry("e"), Retry("e", 5), Deferred("r"), Rejected("e"), Unknown("u"), Unknown("u", park=True), Withheld("w"),
]  # fmt: skip


def decide(outcome: Outcome, policy: RetryPolicy = POLICY, **fields: Any) -> retry.Verdict:
    return retry.decide(outcome, message(**fields), policy)


def test_the_constants_carried_over() -> None:
    assert RetryPolicy().max_attempts == 5
    assert Backoff().delays_s == (5, 25, 120, 600)


@pytest.mark.proves("T26")
@pytest.mark.parametrize(("failed", "pause_s"), [(1, 5), (2, 25), (3, 120), (4, 600), (5, 600), (50, 600)])
def test_t26_the_pause_after_the_nth_failure_is_the_nth(failed: int, pause_s: int) -> None:
    assert PLAIN.after(failed) == pause_s * 1000


@pytest.mark.proves("T26")
def test_t26_the_first_failure_waits_the_first_pause() -> None:
    verdict = decide(Retry("HTTP 503"), attempt_count=1)
    assert (verdict.status, verdict.delay_ms, verdict.charged) == (Status.FAILED_RETRYABLE, 5_000, True)


def test_before_the_first_failure_there_is_no_pause() -> None:
    assert PLAIN.after(0) == PLAIN.after(-1) == 0


@given(st.integers(min_value=1, max_value=10), st.floats(min_value=0, max_value=1))
def test_jitter_only_lengthens_a_pause_and_by_no_more_than_its_share(failed: int, jitter: float) -> None:
    backoff = Backoff(jitter=jitter)
    assert PLAIN.after(failed) <= backoff.after(failed) <= PLAIN.after(failed) * (1 + jitter) + 1
    assert backoff.after(failed) <= backoff.longest_ms


@pytest.mark.parametrize("delays", [(), (-1,), (float("nan"),), (float("inf"),), (5, 1e12)], ids=repr)
def test_pauses_that_are_none_are_refused(delays: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="backoff needs at least one pause"):
        Backoff(delays)


@pytest.mark.parametrize("jitter", [-0.1, 1.1, float("nan")])
def test_a_jitter_that_is_no_share_is_refused(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter is a share"):
        Backoff(jitter=jitter)


def test_five_attempts_are_made_and_the_fifth_failure_ends_the_message() -> None:
    statuses = [decide(Retry("HTTP 503"), attempt_count=number).status for number in range(1, 6)]
    assert statuses == [Status.FAILED_RETRYABLE] * 4 + [Status.FAILED_TERMINAL]


def test_a_dead_letter_keeps_its_error_and_says_why_it_died() -> None:
    verdict = decide(Retry("HTTP 503"), attempt_count=5)
    assert (verdict.error, verdict.error_class, verdict.reason) == ("HTTP 503", ErrorClass.TRANSIENT, "attempts used up")


def test_the_messages_own_number_of_attempts_beats_the_channels() -> None:
    assert decide(Retry("e"), attempt_count=1, max_attempts=1).status == Status.FAILED_TERMINAL
    assert decide(Retry("e"), attempt_count=5, max_attempts=6).status == Status.FAILED_RETRYABLE


def test_t6_a_permanent_failure_keeps_its_text_and_class() -> None:
    verdict = decide(Rejected("HTTP 404"), attempt_count=1)
    assert (verdict.status, verdict.error, verdict.error_class, verdict.reason) == (
        Status.FAILED_TERMINAL, "HTTP 404", ErrorClass.PERMANENT, "permanent failure",
    )  # fmt: skip


def test_t4_what_was_withheld_is_cancelled_with_its_reason_and_is_no_error() -> None:
    verdict = decide(Withheld("nothing to say"))
    assert (verdict.status, verdict.reason, verdict.error) == (Status.CANCELLED, "nothing to say", None)


@pytest.mark.parametrize(
    ("asked_ms", "waits_ms"),
    [(0, 0), (1, 1), (90_000, 90_000), (3_600_000, 3_600_000), (3_600_001, 3_600_000), (10**15, 3_600_000)],
)
def test_a_providers_wish_beats_the_backoff_up_to_an_hour(asked_ms: int, waits_ms: int) -> None:
    assert decide(Retry("HTTP 429", asked_ms), attempt_count=1).delay_ms == waits_ms


def test_a_providers_wish_gives_no_attempt_beyond_the_last() -> None:
    assert decide(Retry("HTTP 429", 60_000), attempt_count=5).status == Status.FAILED_TERMINAL


@pytest.mark.parametrize(
    ("asked_ms", "waits_ms"), [(None, 5_000), (0, 5_000), (4_999, 5_000), (60_000, 60_000), (10**15, 3_600_000)]
)
def test_a_deferral_costs_nothing_and_waits_at_least_five_seconds(asked_ms: int | None, waits_ms: int) -> None:
    verdict = decide(Deferred("not connected", asked_ms), attempt_count=1)
    assert (verdict.status, verdict.delay_ms, verdict.charged) == (Status.QUEUED, waits_ms, False)
    assert (verdict.error, verdict.reason) == (None, "not connected")


@pytest.mark.proves("T14")
def test_t14_a_deferral_never_ends_a_message() -> None:
    assert decide(Deferred("not connected"), attempt_count=99, max_attempts=1).status == Status.FAILED_RETRYABLE


@pytest.mark.parametrize("attempt_count", [1, 2])
def test_a_release_is_due_at_once_and_charges_nothing(attempt_count: int) -> None:
    verdict = retry.released(message(attempt_count=attempt_count))
    assert (verdict.delay_ms, verdict.charged, verdict.error) == (0, False, None)
    assert verdict.status == (Status.QUEUED if attempt_count == 1 else Status.FAILED_RETRYABLE)


@pytest.mark.proves("R11", "T25")
@pytest.mark.parametrize("kind", ["tool", "block"])
@pytest.mark.parametrize("outcome", [Retry("e"), Rejected("e"), Unknown("e")], ids=lambda outcome: type(outcome).__name__)
@pytest.mark.parametrize("policy", [POLICY, PARK, RECONCILE, BLOCK], ids=["resend", "park", "reconcile", "block"])
def test_r11_a_non_final_message_that_failed_is_never_sent_again(kind: str, outcome: Outcome, policy: RetryPolicy) -> None:
    verdict = decide(outcome, policy, dispatch_kind=kind, ordering_key="k")
    assert (verdict.status, verdict.reason) == (Status.FAILED_TERMINAL, "non_final_recovery_skip")
    assert verdict.error == "e"


@pytest.mark.parametrize("kind", ["final", None])
def test_r11_a_missing_dispatch_kind_counts_as_final(kind: str | None) -> None:
    assert decide(Retry("e"), dispatch_kind=kind).status == Status.FAILED_RETRYABLE


@pytest.mark.proves("R11", "T25")
@pytest.mark.parametrize("proven_dead", [True, False])
def test_r11_a_non_final_message_whose_worker_died_ends(proven_dead: bool) -> None:
    verdict = retry.rescue(message(dispatch_kind="tool"), POLICY, proven_dead=proven_dead)
    assert (verdict.status, verdict.reason) == (Status.FAILED_TERMINAL, "non_final_recovery_skip")


@pytest.mark.proves("T13")
def test_t13_an_unknown_outcome_is_sent_again_where_the_channel_says_so() -> None:
    verdict = decide(Unknown("no answer"), attempt_count=2)
    assert (verdict.status, verdict.delay_ms) == (Status.FAILED_RETRYABLE, 25_000)
    assert (verdict.error, verdict.error_class, verdict.outcome_unknown) == ("no answer", ErrorClass.UNKNOWN, True)


@pytest.mark.proves("T13")
def test_t13_an_unknown_outcome_is_parked_where_the_channel_says_so() -> None:
    verdict = decide(Unknown("no answer"), PARK)
    assert (verdict.status, verdict.reason, verdict.outcome_unknown) == (Status.PARKED, "unknown outcome", True)


def test_an_outcome_that_nobody_can_tell_is_parked_whatever_the_channel_says() -> None:
    assert decide(Unknown("cannot tell", park=True)).status == Status.PARKED


def test_reconciliation_tries_until_the_attempts_are_used_up_and_then_parks() -> None:
    assert decide(Unknown("no answer"), RECONCILE, attempt_count=4).status == Status.FAILED_RETRYABLE
    assert decide(Unknown("no answer"), RECONCILE, attempt_count=5).status == Status.PARKED


def test_a_failure_that_uses_up_the_attempts_parks_what_an_earlier_attempt_may_have_sent_where_the_channel_reconciles() -> None:
    assert decide(Retry("busy"), RECONCILE, attempt_count=5, outcome_unknown=True).status == Status.PARKED
    assert decide(Retry("busy"), RECONCILE, attempt_count=5, outcome_unknown=False).status == Status.FAILED_TERMINAL
    assert decide(Retry("busy"), POLICY, attempt_count=5, outcome_unknown=True).status == Status.FAILED_TERMINAL


@pytest.mark.proves("T12")
def test_t12_a_message_whose_outcome_stays_unknown_ends_with_its_attempts() -> None:
    verdict = decide(Unknown("no answer"), attempt_count=5)
    assert (verdict.status, verdict.reason, verdict.error_class) == (
        Status.FAILED_TERMINAL, "attempts used up", ErrorClass.UNKNOWN,
    )  # fmt: skip


@pytest.mark.parametrize("outcome", [Rejected("e"), Retry("e"), Unknown("e")], ids=lambda outcome: type(outcome).__name__)
def test_a_dead_head_that_blocks_is_parked_and_keeps_its_key(outcome: Outcome) -> None:
    verdict = decide(outcome, BLOCK, attempt_count=5, ordering_key="k")
    assert (verdict.status, verdict.error) == (Status.PARKED, "e")


def test_without_a_key_there_is_nothing_to_block() -> None:
    assert decide(Rejected("e"), BLOCK, ordering_key=None).status == Status.FAILED_TERMINAL


def test_a_suppressed_head_blocks_nobody() -> None:
    assert decide(Withheld("no"), BLOCK, ordering_key="k").status == Status.CANCELLED


def test_rescue_by_time_waits_for_a_live_worker_to_settle_first() -> None:
    eager = RetryPolicy(backoff=Backoff((0.0,), jitter=0))
    assert retry.rescue(message(attempt_count=1), eager, proven_dead=False).delay_ms == 5_000
    assert retry.rescue(message(attempt_count=2), POLICY, proven_dead=False).delay_ms == 25_000


def test_rescue_of_the_proven_dead_does_not_wait_after_a_first_death() -> None:
    assert retry.rescue(message(attempt_count=1), POLICY, proven_dead=True).delay_ms == 0
    assert retry.rescue(message(attempt_count=2), POLICY, proven_dead=True).delay_ms == 5_000


@pytest.mark.parametrize("proven_dead", [True, False])
def test_a_rescued_row_is_an_unknown_outcome_with_a_reason(proven_dead: bool) -> None:
    verdict = retry.rescue(message(attempt_count=1), POLICY, proven_dead=proven_dead)
    assert (verdict.status, verdict.error_class, verdict.outcome_unknown) == (
        Status.FAILED_RETRYABLE, ErrorClass.UNKNOWN, True,
    )  # fmt: skip
    assert "died" in (verdict.error or "")
    assert retry.rescue(message(attempt_count=1), PARK, proven_dead=proven_dead).status == Status.PARKED
    assert retry.rescue(message(attempt_count=5), POLICY, proven_dead=proven_dead).status == Status.FAILED_TERMINAL


@given(
    outcome=st.sampled_from(OUTCOMES),
    on_unknown=st.sampled_from(OnUnknown),
    dead_head=st.sampled_from(DeadHead),
    kind=st.sampled_from(["final", "block", "tool", None]),
    attempts=st.integers(min_value=1, max_value=8),
    allowed=st.none() | st.integers(min_value=1, max_value=8),
    key=st.sampled_from([None, "k"]),
)  # fmt: skip
def test_every_verdict_is_sound(
    outcome: Outcome, on_unknown: OnUnknown, dead_head: DeadHead, kind: str | None, attempts: int, allowed: int | None,
    key: str | None,
) -> None:  # fmt: skip
    row = message(dispatch_kind=kind, attempt_count=attempts, max_attempts=allowed, ordering_key=key)
    verdict = retry.decide(outcome, row, RetryPolicy(on_unknown=on_unknown, dead_head=dead_head))
    assert (verdict.status is Status.DELIVERED) == isinstance(outcome, Delivered)
    assert verdict.charged != isinstance(outcome, Deferred)
    assert verdict.delay_ms >= 0
    if verdict.status in TERMINAL - {Status.DELIVERED} or verdict.status is Status.PARKED:
        assert verdict.reason
    if verdict.status is Status.FAILED_RETRYABLE and verdict.charged:
        assert row.is_final
        assert attempts < (allowed if allowed is not None else 5)
    if isinstance(outcome, Retry | Rejected | Unknown):
        assert verdict.error == outcome.error
    if isinstance(outcome, Unknown):
        assert verdict.outcome_unknown is True
    else:
        assert verdict.outcome_unknown is None


def retried_after(wish: Any) -> int | None:
    return RetryLater("busy", after=wish).after_ms


def test_an_adapters_wish_to_wait_never_fails_in_the_midst_of_a_failure() -> None:
    assert [retried_after(wish) for wish in (None, float("nan"), -5, 1.5)] == [None, None, 0, 1500]
    assert retried_after(float("inf")) == retried_after(1e300) == 366 * 24 * 3_600_000
    assert NotReady("later", after=float("nan")).after_ms is None
