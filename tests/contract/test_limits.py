"""What a channel or a target cannot take now waits, outside of the due index, uncharged, and hides nobody."""

from collections import Counter
from typing import Any

import pytest

from outbox.lifecycle import Status
from outbox.message import Claim
from outbox.policy.destination import Breaker, Limits, Rate
from outbox.store.records import GateState, Lane
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.steps import CHANNEL, DELIVERED, enqueue, ids, new_row, settle, stored, take

BREAKER = Breaker(failures=3, open_s=30, longest_open_s=120)


def enqueue_to(store: SQLStore, **counts: int) -> None:
    """So many messages for each target, named target-1, target-2 …"""
    enqueue(
        store, *(new_row(id=f"{target}-{n}", target=target) for target, count in counts.items() for n in range(1, count + 1))
    )


def claim(store: SQLStore, limit: int = 100, **limits: Any) -> list[Claim]:
    return list(store.claim(Lane(CHANNEL, 0, 0), limit, Limits(**limits)).claims)


def by_target(claims: list[Claim]) -> dict[str, int]:
    return dict(Counter(claim.id.rsplit("-", 1)[0] for claim in claims))


def half_open(store: SQLStore) -> frozenset[str]:
    return frozenset(gate.target for gate in store.gates(closed_only=False) if gate.state is GateState.HALF_OPEN)


def test_a_channels_rate_lets_a_burst_pass_and_then_one_by_one(store: SQLStore, clock: FakeClock) -> None:
    enqueue_to(store, a=10)
    rate = Rate(4)

    assert len(claim(store, rate=rate)) == 4
    assert claim(store, rate=rate) == []
    clock.advance(250)
    assert len(claim(store, rate=rate)) == 1
    clock.advance(60_000)
    assert len(claim(store, rate=rate)) == 4, "a long pause saves up no more than the burst"


def test_a_rate_of_the_whole_channel_leaves_the_others_due_and_untouched(store: SQLStore) -> None:
    enqueue_to(store, a=3)

    claim(store, rate=Rate(1))

    assert [stored(store, name).lease for name in ("a-2", "a-3")] == [0, 0]


def test_each_target_has_a_rate_of_its_own_and_a_busy_one_hides_no_other(store: SQLStore, clock: FakeClock) -> None:
    enqueue_to(store, busy=50, quiet=1)
    rate = Rate(2)

    assert by_target(claim(store, target_rate=rate)) == {"busy": 2, "quiet": 1}
    assert claim(store, target_rate=rate) == []
    clock.advance(500)
    assert by_target(claim(store, target_rate=rate)) == {"busy": 1}


def test_waiting_for_a_rate_charges_nothing(store: SQLStore) -> None:
    enqueue_to(store, a=2)

    claim(store, target_rate=Rate(1, per_s=60))

    waiting = stored(store, "a-2")
    assert (waiting.status, waiting.attempt_count, waiting.lease) == (Status.QUEUED, 0, 1)


def test_the_rows_above_a_targets_rate_are_spread_so_that_each_is_met_about_when_it_may_go(
    store: SQLStore, clock: FakeClock
) -> None:
    enqueue_to(store, a=5)

    claim(store, target_rate=Rate(1))

    waits = [stored(store, f"a-{n}").next_attempt_at - clock.now for n in (2, 3, 4, 5)]
    assert waits == [1_000, 2_000, 3_000, 4_000]


def test_a_target_never_has_more_in_flight_than_its_cap(store: SQLStore, clock: FakeClock) -> None:
    enqueue_to(store, slow=5, quick=1)

    first = claim(store, target_in_flight=2)
    assert by_target(first) == {"slow": 2, "quick": 1}
    clock.advance(10_000)
    assert claim(store, target_in_flight=2) == []
    for message in take(store, [each for each in first if each.id == "slow-1"]):
        settle(store, message, DELIVERED)
    clock.advance(10_000)
    assert by_target(claim(store, target_in_flight=2)) == {"slow": 1}


@pytest.mark.proves("T41")
def test_after_an_outage_a_targets_backlog_is_paced_and_a_fresh_message_is_not(store: SQLStore, clock: FakeClock) -> None:
    enqueue_to(store, a=4)
    clock.advance(60_000)
    enqueue(store, new_row(id="fresh-1", target="fresh"), new_row(id="fresh-2", target="fresh"))

    assert by_target(claim(store, recovery_pace_ms=250)) == {"a": 1, "fresh": 2}
    assert claim(store, recovery_pace_ms=250) == []
    clock.advance(250)
    assert by_target(claim(store, recovery_pace_ms=250)) == {"a": 1}


def test_failures_in_a_row_open_a_targets_breaker_for_longer_the_longer_it_fails(store: SQLStore, clock: FakeClock) -> None:
    assert store.note_failures(CHANNEL, {"a": 2}, BREAKER, reason="HTTP 503") == frozenset()
    assert store.note_failures(CHANNEL, {"a": 1}, BREAKER, reason="HTTP 503") == {"a"}
    (gate,) = store.gates()
    assert (gate.target, gate.failures, gate.closed_until) == ("a", 3, clock.now + 30_000)

    clock.advance(100_000)
    store.note_failures(CHANNEL, {"a": 1}, BREAKER, reason="HTTP 503")
    assert store.gates()[0].closed_until == clock.now + 50_000
    clock.advance(1_000_000)
    store.note_failures(CHANNEL, {"a": 1}, BREAKER, reason="HTTP 503")
    assert store.gates()[0].closed_until == clock.now + 120_000


def test_a_success_begins_the_count_anew(store: SQLStore) -> None:
    store.note_failures(CHANNEL, {"a": 2, "b": 2}, BREAKER, reason="HTTP 503")

    assert store.note_successes(CHANNEL, ["a", "c"]) == {"a"}

    assert store.note_failures(CHANNEL, {"a": 2, "b": 1}, BREAKER, reason="HTTP 503") == {"b"}


def test_a_half_open_target_is_probed_by_one_message_and_the_permit_expires(store: SQLStore, clock: FakeClock) -> None:
    store.note_failures(CHANNEL, {"a": 3}, BREAKER, reason="HTTP 503")
    enqueue_to(store, a=3, b=1)
    clock.advance(30_001)
    probed = half_open(store)
    assert probed == {"a"}

    assert by_target(claim(store, probed=probed, permit_ms=40_000)) == {"a": 1, "b": 1}
    assert half_open(store) == frozenset()
    assert claim(store, closed=frozenset({"a"})) == []
    clock.advance(40_001)
    assert half_open(store) == {"a"}
    assert by_target(claim(store, probed=half_open(store), permit_ms=40_000)) == {"a": 1}


def test_two_relays_that_see_the_same_half_open_target_send_one_probe(store: SQLStore, clock: FakeClock) -> None:
    store.note_failures(CHANNEL, {"a": 3}, BREAKER, reason="HTTP 503")
    enqueue_to(store, a=2)
    clock.advance(30_001)
    seen_by_both = half_open(store)

    first = claim(store, 1, probed=seen_by_both, permit_ms=40_000)
    second = claim(store, 1, probed=seen_by_both, permit_ms=40_000)

    assert (len(first), len(second)) == (1, 0)


def test_a_probe_that_succeeds_closes_the_breaker_and_makes_due_what_waited(store: SQLStore, clock: FakeClock) -> None:
    store.note_failures(CHANNEL, {"a": 3}, BREAKER, reason="HTTP 503")
    enqueue_to(store, a=3)
    clock.advance(30_001)
    claim(store, probed=half_open(store), permit_ms=40_000)

    store.note_successes(CHANNEL, ["a"])

    assert store.gates(closed_only=False) == []
    assert ids(claim(store)) == ["a-2", "a-3"]


def test_a_row_that_missed_its_permit_because_the_breaker_had_closed_meanwhile_is_looked_at_again_soon(
    store: SQLStore, clock: FakeClock
) -> None:
    store.note_failures(CHANNEL, {"a": 3}, BREAKER, reason="HTTP 503")
    enqueue_to(store, a=1)
    clock.advance(30_001)
    seen = half_open(store)
    store.note_successes(CHANNEL, ["a"])

    assert claim(store, probed=seen, permit_ms=40_000) == []
    clock.advance(1_000)
    assert by_target(claim(store)) == {"a": 1}


def test_a_half_open_channel_lets_one_message_pass_whatever_its_target(store: SQLStore, clock: FakeClock) -> None:
    store.note_failures(CHANNEL, {"": 3}, BREAKER, reason="HTTP 503")
    enqueue_to(store, a=2, b=2)
    clock.advance(30_001)
    probed = half_open(store)
    assert probed == {""}

    assert len(claim(store, probed=probed, permit_ms=40_000)) == 1
    assert claim(store, probed=probed, permit_ms=40_000) == []


def test_a_target_that_is_resumed_gets_at_once_what_was_postponed_for_it(store: SQLStore) -> None:
    enqueue_to(store, a=2)
    claim(store, closed=frozenset({"a"}))
    assert claim(store) == []
    store.close(CHANNEL, "a", "pause", for_ms=None, reason="maintenance")

    store.reopen(CHANNEL, "a")

    assert ids(claim(store)) == ["a-1", "a-2"]


def test_old_buckets_are_forgotten(store: SQLStore, clock: FakeClock) -> None:
    enqueue_to(store, a=1)
    claim(store, target_rate=Rate(1))

    assert store.forget_buckets() == 0
    clock.advance(2 * 3_600_000)
    assert store.forget_buckets() == 1
