"""The blocked mark: rows that wait behind another of their key stay out of the due index, and no mark is ever lost."""

import pytest

from outbox.message import Claim
from outbox.policy.retry import Verdict
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.steps import (
    CHANNEL,
    DEAD,
    DEFERRED,
    DELIVERED,
    MINUTE,
    PARKED,
    RETRY,
    RUN_LEASE_MS,
    SECOND,
    WITHHELD,
    begin,
    cancel,
    claim,
    claim_all,
    enqueue,
    ids,
    new_row,
    put,
    rescue,
    settle,
    stored,
    take,
    talk,
)


def test_waiting_rows_leave_the_due_index_and_cost_nothing(store: SQLStore) -> None:
    begin(store, "1", ordering_key="chat")
    talk(store, *(f"w{number}" for number in range(50)))
    claimed = claim_all(store)
    assert (claimed.claims, claimed.moved) == ([], 50)
    assert not store.pending([CHANNEL])


@pytest.mark.parametrize("verdict", [DELIVERED, DEAD, WITHHELD])
def test_a_settled_head_unblocks_the_next(store: SQLStore, verdict: Verdict) -> None:
    head = begin(store, "1", ordering_key="chat")
    talk(store, "2", "3")
    claim(store)
    assert settle(store, head, verdict).unblocked
    assert ids(claim(store)) == ["2", "3"]


def test_no_more_rows_are_unblocked_than_may_go(store: SQLStore) -> None:
    head = begin(store, "1", ordering_key="chat")
    talk(store, "2", "3", "4")
    claim(store)
    settle(store, head, DELIVERED)
    assert [stored(store, name).blocked for name in ("2", "3", "4")] == [0, 1, 1]


@pytest.mark.parametrize("verdict", [RETRY, DEFERRED, PARKED])
def test_a_head_that_has_not_ended_leaves_those_behind_it_out_of_the_due_index(store: SQLStore, verdict: Verdict) -> None:
    head = begin(store, "1", ordering_key="chat")
    talk(store, "2", "3")
    claim(store)
    assert not settle(store, head, verdict).unblocked
    assert [stored(store, name).blocked for name in ("2", "3")] == [1, 1]


def test_settling_a_row_that_nobody_waits_for_unblocks_nothing(store: SQLStore) -> None:
    assert not settle(store, begin(store, "1", ordering_key="chat"), DELIVERED).unblocked


def test_an_expired_head_unblocks_the_next(store: SQLStore, clock: FakeClock) -> None:
    talk(store, "1", ttl_ms=SECOND)
    claim(store)
    talk(store, "2")
    claim(store)
    assert stored(store, "2").blocked
    clock.advance(SECOND + 1)
    assert store.expire(100) == 1
    assert ids(claim(store)) == ["2"]


def test_a_cancelled_head_unblocks_the_next(store: SQLStore) -> None:
    talk(store, "1")
    claim(store)
    talk(store, "2")
    claim(store)
    cancel(store, "1")
    assert ids(claim(store)) == ["2"]


def test_a_late_success_of_a_parked_head_unblocks_the_next(store: SQLStore) -> None:
    head = begin(store, "1", ordering_key="chat")
    settle(store, head, PARKED)
    talk(store, "2")
    claim(store)
    assert stored(store, "2").blocked
    assert settle(store, head, DELIVERED).unblocked
    assert ids(claim(store)) == ["2"]


def test_a_blocked_row_that_expires_or_is_cancelled_leaves_no_mark(store: SQLStore, clock: FakeClock) -> None:
    begin(store, "1", ordering_key="chat")
    talk(store, "2", ttl_ms=SECOND)
    talk(store, "3")
    claim(store)
    clock.advance(SECOND + 1)
    assert store.expire(100) == 1
    cancel(store, "3")
    assert [stored(store, name).blocked for name in ("2", "3")] == [0, 0]


def test_a_future_row_that_becomes_due_waits_for_the_later_one_that_is_being_sent(store: SQLStore, clock: FakeClock) -> None:
    talk(store, "reminder", delay_ms=SECOND)
    later = begin(store, "2", ordering_key="chat")
    clock.advance(SECOND)
    assert claim(store) == []
    assert take(store, [Claim("reminder", 0)]) == []
    settle(store, later, DELIVERED)
    assert ids(claim(store)) == ["reminder"]


@pytest.mark.parametrize("verdict", [RETRY, DEFERRED, PARKED])
def test_it_need_not_wait_longer_when_that_one_is_not_sent_after_all(
    store: SQLStore, clock: FakeClock, verdict: Verdict
) -> None:
    talk(store, "reminder", delay_ms=SECOND)
    later = begin(store, "2", ordering_key="chat")
    clock.advance(SECOND)
    claim(store)
    settle(store, later, verdict)
    assert ids(claim(store)) == ["reminder"]


def test_when_the_later_ones_sender_dies_it_need_not_wait_longer_either(store: SQLStore, clock: FakeClock) -> None:
    talk(store, "reminder", delay_ms=SECOND)
    begin(store, "2", ordering_key="chat")
    clock.advance(RUN_LEASE_MS + 1)
    claim(store)
    rescue(store)
    assert ids(claim(store)) == ["reminder"]


def test_mend_clears_a_mark_that_nobody_else_will(store: SQLStore) -> None:
    talk(store, "1", "2")
    put(store, "1", blocked=1)
    put(store, "2", blocked=1)
    assert not store.pending([CHANNEL])
    assert store.mend(("", ""), 100) == (1, None)
    assert ids(claim(store)) == ["1", "2"]


def test_mend_leaves_the_marks_of_rows_that_do_wait(store: SQLStore) -> None:
    begin(store, "1", ordering_key="chat")
    talk(store, "2", "3")
    claim(store)
    assert store.mend(("", ""), 100) == (0, None)
    assert [stored(store, name).blocked for name in ("2", "3")] == [1, 1]


def test_mend_passes_a_never_tried_future_row_as_the_claim_does(store: SQLStore) -> None:
    talk(store, "reminder", delay_ms=MINUTE)
    talk(store, "2")
    put(store, "2", blocked=1)
    assert store.mend(("", ""), 100) == (1, None)


def test_mend_goes_through_the_keys_in_bounded_steps(store: SQLStore) -> None:
    for number in range(5):
        enqueue(store, new_row(id=f"{number}", ordering_key=f"key-{number}", channel="ab"[number % 2]))
        put(store, f"{number}", blocked=1)
    steps, place = [], ("", "")
    while place is not None:
        cleared, place = store.mend(place, 2)
        steps.append(cleared)
    assert steps == [2, 2, 1]


def test_a_thousand_busy_keys_do_not_hide_a_free_one(store: SQLStore) -> None:
    heads = [new_row(id=f"h{number}", ordering_key=f"k{number}") for number in range(300)]
    enqueue(store, *heads)
    assert len(take(store, claim(store, limit=300))) == 300
    enqueue(store, *(new_row(ordering_key=f"k{number}") for number in range(300)), new_row(id="free", ordering_key="free"))
    claimed: list[str] = []
    while store.pending([CHANNEL]).lanes:
        passed = claim_all(store, limit=100)
        assert passed.moved
        claimed += ids(passed.claims)
    assert claimed == ["free"]
