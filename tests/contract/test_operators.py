"""``replay``, ``cancel`` and their rehearsal: what operators may do, what is refused by name, and that it is on record."""

import pytest

from outbox.lifecycle import CANCELLABLE, REPLAYABLE, TERMINAL, Event, Status
from outbox.message import Claim
from outbox.policy.retry import ATTEMPTS_USED_UP, Verdict
from outbox.store.records import MessageFilter
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.steps import (
    DEAD,
    MINUTE,
    NOW,
    PARKED,
    RETRY,
    SECOND,
    begin,
    begin_again,
    bring_to,
    cancel,
    claim,
    end_as,
    enqueue,
    enqueue_named,
    ids,
    new_row,
    put,
    replay,
    settle,
    settlement,
    statuses,
    stored,
    take,
)


@pytest.mark.proves("R3")
@pytest.mark.parametrize("status", sorted(REPLAYABLE))
def test_r3_a_replayed_row_is_due_now_from_attempt_0_under_a_new_lease(
    store: SQLStore, clock: FakeClock, status: Status
) -> None:
    bring_to(store, "m", status)
    clock.advance(MINUTE)
    assert replay(store, "m").changed == ["m"]
    row = stored(store, "m")
    assert (row.status, row.attempt_count, row.lease, row.next_attempt_at) == ("queued", 0, 2, clock.now)
    assert (row.delivered_at, row.completed_at, row.terminal_reason, row.outcome_unknown) == (None, None, None, 0)
    assert begin_again(store, "m").attempt_count == 1
    assert store.violations(10) == []


@pytest.mark.parametrize("status", sorted(set(Status) - REPLAYABLE))
def test_a_row_that_is_under_way_is_not_replayed_and_the_refusal_says_why(store: SQLStore, status: Status) -> None:
    bring_to(store, "m", status)
    before = stored(store, "m").columns
    result = replay(store, "m")
    assert result.changed == []
    (refusal,) = result.refused
    assert refusal.id == "m"
    assert ("being sent" if status is Status.SENDING else status) in refusal.reason
    assert stored(store, "m").columns == before


@pytest.mark.proves("R11")
@pytest.mark.parametrize("kind", ["block", "tool"])
def test_r11_a_non_final_row_is_never_replayed(store: SQLStore, kind: str) -> None:
    settle(store, begin(store, "m", dispatch_kind=kind), DEAD)
    assert kind in replay(store, "m").refused[0].reason


def test_a_row_whose_payload_was_blanked_is_not_replayed(store: SQLStore) -> None:
    end_as(store, "m", Status.DELIVERED)
    put(store, "m", payload=None, blanked_at=NOW)
    assert "blanked" in replay(store, "m").refused[0].reason


def test_replay_and_cancel_refuse_ids_that_are_not_kept(store: SQLStore) -> None:
    for act in (replay, cancel):
        result = act(store, "nobody")
        assert (result.changed, result.refused[0].id) == ([], "nobody")
        assert "no message" in result.refused[0].reason


@pytest.mark.proves("T7")
def test_t7_invariant_10_replay_keeps_the_last_error_and_the_history(store: SQLStore) -> None:
    settle(store, begin(store, "m"), Verdict(Status.FAILED_TERMINAL, 0, "HTTP 503", reason=ATTEMPTS_USED_UP))
    replay(store, "m")
    assert stored(store, "m").last_error == "HTTP 503"
    settle(store, begin_again(store, "m"), RETRY)
    assert [(line.number, line.lease) for line in store.attempts("m")] == [(1, 1), (1, 3)]


@pytest.mark.proves("R6")
def test_r6_replay_starts_the_ttl_afresh_and_always_with_the_same_length(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m", ttl_ms=10 * MINUTE, delay_ms=5 * MINUTE)
    for _ in range(3):
        cancel(store, "m")
        clock.advance(24 * 60 * MINUTE)
        replay(store, "m")
        assert stored(store, "m").expires_at == clock.now + 10 * MINUTE


def test_replay_gives_no_ttl_to_a_row_that_had_none(store: SQLStore) -> None:
    end_as(store, "m", Status.FAILED_TERMINAL)
    replay(store, "m")
    assert stored(store, "m").expires_at is None


@pytest.mark.parametrize("status", sorted(CANCELLABLE))
def test_a_cancelled_row_is_withdrawn_with_its_reason(store: SQLStore, status: Status) -> None:
    bring_to(store, "m", status)
    assert cancel(store, "m").changed == ["m"]
    row = stored(store, "m")
    assert (row.status, row.terminal_reason, row.completed_at, row.lease_until) == ("cancelled", "asked to", NOW, None)
    assert take(store, [Claim("m", row.lease)]) == []
    assert store.violations(10) == []


@pytest.mark.parametrize("status", sorted(set(Status) - CANCELLABLE))
def test_a_row_that_is_being_sent_or_has_ended_is_not_cancelled(store: SQLStore, status: Status) -> None:
    bring_to(store, "m", status)
    result = cancel(store, "m")
    assert result.changed == []
    assert ("being sent" if status is Status.SENDING else status) in result.refused[0].reason
    assert stored(store, "m").status == status


def test_every_action_is_on_record_with_who_when_why_and_from_which_status(store: SQLStore, clock: FakeClock) -> None:
    enqueue_named(store, "m")
    cancel(store, "m")
    clock.advance(SECOND)
    replay(store, "m")
    first, second = store.operations("m")
    assert (first.action, first.from_status, first.at, first.actor, first.reason) == (
        "cancel", "queued", NOW, "ada", "asked to",
    )  # fmt: skip
    assert (second.action, second.from_status, second.at) == ("replay", "cancelled", NOW + SECOND)


def test_a_refused_action_is_not_on_record(store: SQLStore) -> None:
    begin(store, "m")
    cancel(store, "m")
    replay(store, "m")
    assert store.operations("m") == []


def test_a_filter_means_the_rows_that_the_action_applies_to(store: SQLStore) -> None:
    settle(store, begin(store, "a"), DEAD)
    settle(store, begin(store, "b", channel="email"), DEAD)
    settle(store, begin(store, "c", target="elsewhere"), DEAD)
    settle(store, begin(store, "d", turn_id="turn-1"), DEAD)
    begin(store, "sending")

    def meant(**fields: object) -> list[str]:
        result = store.rehearse(Event.REPLAY, MessageFilter(**fields), 100)  # type: ignore[arg-type]
        assert not result.refused
        return sorted(result.changed)

    assert meant(channel="email") == ["b"]
    assert meant(target="elsewhere") == ["c"]
    assert meant(turn_id="turn-1") == ["d"]
    assert meant(status=Status.FAILED_TERMINAL) == ["a", "b", "c", "d"]
    assert meant(status=Status.FAILED_TERMINAL, before_seq=stored(store, "c").seq) == ["a", "b"]
    assert meant() == ["a", "b", "c", "d"]


def test_a_filter_is_bounded_by_the_limit_and_named_rows_are_not(store: SQLStore) -> None:
    names = [f"{number}" for number in range(5)]
    enqueue_named(store, *names)
    assert len(store.cancel(MessageFilter(channel="webhook"), 2, actor=None, reason=None).changed) == 2
    result = store.cancel(MessageFilter(ids=names), 2, actor=None, reason=None)
    assert (len(result.changed), len(result.refused)) == (3, 2)
    assert all("cancelled" in refusal.reason for refusal in result.refused)


def test_named_rows_that_a_filter_leaves_out_are_not_called_missing(store: SQLStore) -> None:
    enqueue_named(store, "m")
    wanted = MessageFilter(ids=["m"], status=Status.FAILED_TERMINAL)
    (refusal,) = store.replay(wanted, 10, actor=None, reason=None).refused
    assert "no message with that id is kept" not in refusal.reason


def test_a_rehearsal_tells_what_would_happen_and_changes_nothing(store: SQLStore) -> None:
    end_as(store, "dead", Status.FAILED_TERMINAL)
    enqueue_named(store, "queued")
    wanted = MessageFilter(ids=["queued", "dead", "nobody"])
    for event, changed in ((Event.CANCEL, "queued"), (Event.REPLAY, "dead")):
        result = store.rehearse(event, wanted, 100)
        assert list(result.changed) == [changed]
        assert {refusal.id for refusal in result.refused} == {"queued", "dead", "nobody"} - {changed}
    assert statuses(store) == {"queued": "queued", "dead": "failed_terminal"}
    assert store.operations("queued") == store.operations("dead") == []


def test_a_mixed_selection_changes_what_it_can_and_names_the_rest(store: SQLStore) -> None:
    enqueue_named(store, "queued")
    begin(store, "sending")
    end_as(store, "delivered", Status.DELIVERED)
    result = cancel(store, "queued", "sending", "delivered", "nobody")
    assert (result.changed, sorted(refusal.id for refusal in result.refused)) == (
        ["queued"],
        ["delivered", "nobody", "sending"],
    )


def test_hundreds_of_dead_letters_are_replayed_together(store: SQLStore) -> None:
    enqueue(store, *(new_row() for _ in range(300)))
    store.settle([settlement(message, DEAD) for message in take(store, claim(store, limit=300))])
    result = store.replay(MessageFilter(status=Status.FAILED_TERMINAL), 1_000, actor="ada", reason=None)
    assert len(result.changed) == 300
    assert len(claim(store, limit=300)) == 300


def test_a_replayed_row_of_a_parked_head_keeps_its_place(store: SQLStore) -> None:
    settle(store, begin(store, "1", ordering_key="chat"), PARKED)
    enqueue_named(store, "2", ordering_key="chat")
    claim(store)
    replay(store, "1")
    assert ids(claim(store)) == ["1", "2"]


def test_terminal_is_what_prune_and_replay_take_it_for() -> None:
    assert TERMINAL | {Status.PARKED} == REPLAYABLE
