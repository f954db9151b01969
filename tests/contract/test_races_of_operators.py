"""Operators at the same moment as maintenance, the relay or a sender: none of them undoes what the other has just done.

``with store.transaction()`` is the one that came first; what runs beside it came second.
"""

import pytest

from outbox.lifecycle import TERMINAL, Status
from outbox.policy.destination import Breaker, Limits
from outbox.store import claiming, gating, operating, sweeping
from outbox.store.records import GateKind, MessageFilter, OperatorResult
from outbox.store.sql import Transaction
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.concurrency import passing, result, waiting
from tests.contract.held_open import LANE, claim_in, replay_in, settle_in, take_in
from tests.contract.steps import (
    CHANNEL,
    DELIVERED,
    MINUTE,
    NOW,
    SECOND,
    claim,
    end_as,
    enqueue_named,
    ids,
    replay,
    settle,
    statuses,
    stored,
)

PARKED_ONES = MessageFilter(status=Status.PARKED)
QUEUED_ONES = MessageFilter(channel=CHANNEL)
A_DAY = 24 * 60 * MINUTE
SHUT = Limits(closed=frozenset({"there"}))


def blank(store: SQLStore, status: Status) -> tuple[int, int]:
    return store.blank(CHANNEL, status, 0, 0, 100)


def resolve(store: SQLStore, *, sent: bool, wanted: MessageFilter) -> OperatorResult:
    return store.resolve(wanted, 100, sent=sent, actor="ada", reason="looked it up")


def resolve_in(tx: Transaction, *, sent: bool) -> OperatorResult:
    return operating.resolve(tx, MessageFilter(ids=["m"]), 1, sent=sent, actor=None, reason=None)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_blank_passes_over_a_row_that_is_being_replayed(store: SQLStore, clock: FakeClock, status: Status) -> None:
    """Else what is queued again would have nothing to say."""
    end_as(store, "m", status)
    clock.advance(SECOND)
    with store.transaction() as tx:
        assert replay_in(tx, "m").changed == ["m"]
        blanked = passing(store, blank, store, status)
    assert (result(blanked)[0], blank(store, status)[0]) == (0, 0)
    row = stored(store, "m")
    assert (row.status, row.payload, row.blanked_at) == ("queued", '{"text":"hello"}', None)


def test_a_replay_that_waits_for_a_blank_is_refused(store: SQLStore, clock: FakeClock) -> None:
    end_as(store, "m", Status.FAILED_TERMINAL)
    clock.advance(SECOND)
    with store.transaction() as tx:
        assert sweeping.blank(tx, CHANNEL, Status.FAILED_TERMINAL, 0, 0, 100)[0] == 1
        replayed = waiting(store, replay, store, "m")
    assert "blanked" in result(replayed).refused[0].reason
    assert stored(store, "m").status == "failed_terminal"


def test_a_blank_passes_over_a_row_whose_late_success_is_being_recorded(store: SQLStore, clock: FakeClock) -> None:
    """It was completed anew, and is kept for as long again."""
    message = end_as(store, "m", Status.CANCELLED)
    clock.advance(SECOND)
    with store.transaction() as tx:
        assert settle_in(tx, message, verdict=DELIVERED).recorded == {"m"}
        blanked = passing(store, blank, store, Status.CANCELLED)
    assert (result(blanked)[0], blank(store, Status.CANCELLED)[0]) == (0, 0)
    assert stored(store, "m").blanked_at is None


def test_a_replay_of_all_that_is_parked_passes_by_what_turns_out_to_be_delivered(store: SQLStore) -> None:
    late, _ = end_as(store, "late", Status.PARKED), end_as(store, "parked", Status.PARKED)
    with store.transaction() as tx:
        assert settle_in(tx, late, verdict=DELIVERED).recorded == {"late"}
        replayed = waiting(store, store.replay, PARKED_ONES, 100, actor=None, reason=None)
    assert result(replayed).changed == ["parked"]
    assert statuses(store) == {"late": "delivered", "parked": "queued"}


def test_a_cancel_of_all_that_waits_passes_by_what_turns_out_to_be_sent(store: SQLStore) -> None:
    enqueue_named(store, "sent", "waits")
    copies = claim(store)
    with store.transaction() as tx:
        take_in(tx, copies[:1])
        cancelled = waiting(store, store.cancel, QUEUED_ONES, 100, actor=None, reason=None)
    assert result(cancelled).changed == ["waits"]
    assert statuses(store) == {"sent": "sending", "waits": "cancelled"}


def test_a_cancel_of_all_that_waits_finds_what_a_claim_has_dispatched_meanwhile(store: SQLStore) -> None:
    enqueue_named(store, "m")
    with store.transaction() as tx:
        assert claim_in(tx).moved == 1
        cancelled = waiting(store, store.cancel, QUEUED_ONES, 100, actor=None, reason=None)
    assert result(cancelled).changed == ["m"]
    assert statuses(store) == {"m": "cancelled"}


def test_two_replays_at_once_of_all_that_is_parked_start_a_row_once(store: SQLStore) -> None:
    end_as(store, "m", Status.PARKED)
    with store.transaction() as tx:
        assert replay_in(tx, "m").changed == ["m"]
        second = waiting(store, store.replay, PARKED_ONES, 100, actor=None, reason=None)
    assert result(second).changed == []
    assert (stored(store, "m").lease, len(store.operations("m"))) == (2, 1)


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("wanted", [MessageFilter(ids=["m"]), PARKED_ONES], ids=["named", "all"])
def test_a_resolve_that_waits_for_a_late_success_changes_nothing(store: SQLStore, sent: bool, wanted: MessageFilter) -> None:
    """Resolved as not sent it would be sent again."""
    message = end_as(store, "m", Status.PARKED)
    with store.transaction() as tx:
        assert settle_in(tx, message, verdict=DELIVERED).recorded == {"m"}
        resolved = waiting(store, resolve, store, sent=sent, wanted=wanted)
    answer = result(resolved)
    assert (answer.changed, [refusal.reason[:15] for refusal in answer.refused]) == ([], ["it is delivered"] * len(wanted.ids))
    row = stored(store, "m")
    assert (row.status, row.terminal_reason, row.lease) == ("delivered", "settled late", 1)
    assert store.operations("m") == []


@pytest.mark.parametrize(("sent", "status"), [(True, "delivered"), (False, "queued")])
def test_a_late_success_that_waits_for_a_resolve_changes_nothing(store: SQLStore, sent: bool, status: str) -> None:
    message = end_as(store, "m", Status.PARKED)
    with store.transaction() as tx:
        assert resolve_in(tx, sent=sent).changed == ["m"]
        late = waiting(store, settle, store, message, DELIVERED, receipt='"late"')
    assert result(late).lost == {"m"}
    assert (stored(store, "m").status, stored(store, "m").receipt) == (status, None)


def pause_in(tx: Transaction, reason: str) -> None:
    gating.close(tx, CHANNEL, "", GateKind.PAUSE, for_ms=None, reason=reason, actor="ada")


def pause(store: SQLStore, reason: str) -> None:
    store.close(CHANNEL, "", GateKind.PAUSE, for_ms=None, reason=reason, actor="bob")


def resume(store: SQLStore) -> int:
    return store.reopen(CHANNEL, "", actor="bob", reason="well again")


def last_deeds(store: SQLStore) -> list[tuple[str, str | None]]:
    return [(each.action, each.reason) for each in store.gate_operations(10)]


def test_a_resume_that_waits_for_a_second_pause_takes_that_away_too(store: SQLStore) -> None:
    pause(store, "first")
    with store.transaction() as tx:
        pause_in(tx, "second")
        resumed = waiting(store, resume, store)
    assert (result(resumed), store.gates()) == (1, [])
    assert last_deeds(store) == [("resume", "well again"), ("pause", "second"), ("pause", "first")]


def test_a_pause_that_waits_for_a_resume_stands(store: SQLStore) -> None:
    pause(store, "first")
    with store.transaction() as tx:
        assert gating.reopen(tx, CHANNEL, "", actor="ada", reason="well again") == 1
        paused = waiting(store, pause, store, "second")
    result(paused)
    assert [(gate.reason, gate.actor) for gate in store.gates()] == [("second", "bob")]
    assert last_deeds(store)[0] == ("pause", "second")


def test_of_two_pauses_at_once_the_later_stands(store: SQLStore) -> None:
    with store.transaction() as tx:
        pause_in(tx, "first")
        second = waiting(store, pause, store, "second")
    result(second)
    assert [(gate.reason, gate.actor) for gate in store.gates()] == [("second", "bob")]


def test_two_resumes_at_once_are_one(store: SQLStore) -> None:
    pause(store, "first")
    with store.transaction() as tx:
        assert gating.reopen(tx, CHANNEL, "", actor="ada", reason="well again") == 1
        second = waiting(store, resume, store)
    assert result(second) == 0
    assert [action for action, _ in last_deeds(store)] == ["resume", "pause"]


def test_what_a_claim_postpones_for_a_pause_is_due_at_once_when_a_resume_has_waited_for_it(store: SQLStore) -> None:
    store.close(CHANNEL, "there", GateKind.PAUSE, for_ms=A_DAY, reason="work on the line")
    enqueue_named(store, "m", target="there")
    with store.transaction() as tx:
        assert claiming.claim(tx, LANE, 100, SHUT).moved == 1
        resumed = waiting(store, store.reopen, CHANNEL, "there")
    assert result(resumed) == 1
    assert ids(claim(store)) == ["m"]


def test_what_a_claim_postpones_for_a_breaker_is_due_at_once_when_a_success_has_waited_for_it(store: SQLStore) -> None:
    store.note_failures(CHANNEL, {"there": 1}, Breaker(failures=1, open_s=300), reason="HTTP 503")
    enqueue_named(store, "m", target="there")
    with store.transaction() as tx:
        assert claiming.claim(tx, LANE, 100, SHUT).moved == 1
        healed = waiting(store, store.note_successes, CHANNEL, ["there"])
    assert result(healed) == {"there"}
    assert ids(claim(store)) == ["m"]


def test_a_claim_that_meets_a_pause_which_is_being_taken_away_postpones_for_a_moment_only(store: SQLStore) -> None:
    """It has seen the pause, and whoever takes it away has made due what was put off: nobody else will."""
    store.close(CHANNEL, "there", GateKind.PAUSE, for_ms=A_DAY, reason="work on the line")
    enqueue_named(store, "m", target="there")
    with store.transaction() as tx:
        assert gating.reopen(tx, CHANNEL, "there") == 1
        claimed = passing(store, store.claim, LANE, 100, SHUT)
    assert result(claimed).moved == 1
    assert stored(store, "m").next_attempt_at == NOW + claiming.GATE_MISSED_MS


@pytest.mark.parametrize("also_until", [A_DAY + SECOND, None])
def test_a_claim_postpones_until_the_last_gate_of_a_target_opens(store: SQLStore, also_until: int | None) -> None:
    store.close(CHANNEL, "there", GateKind.PAUSE, for_ms=A_DAY, reason="work on the line")
    store.close(CHANNEL, "there", GateKind.GONE, for_ms=also_until, reason="HTTP 410")
    enqueue_named(store, "m", target="there")
    assert store.claim(LANE, 100, SHUT).moved == 1
    latest = claiming.CLOSED_UNTIL_RESUMED_MS if also_until is None else also_until
    assert stored(store, "m").next_attempt_at == NOW + latest
