"""``close``, ``close_growing``, ``reopen`` and ``gates``: channels and destinations that take nothing for a while."""

import pytest

from outbox.store.records import Gate, GateKind, GateOperation
from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.steps import CHANNEL, MINUTE, NOW, SECOND


def pause(store: SQLStore, target: str = "", *, for_ms: int | None = None) -> None:
    store.close(CHANNEL, target, GateKind.PAUSE, for_ms=for_ms, reason="maintenance", actor="ada")


def not_ready(store: SQLStore) -> None:
    store.close_growing(CHANNEL, GateKind.NOT_READY, at_least_ms=5 * SECOND, reason="no token")


def closed_for(store: SQLStore) -> int:
    (gate,) = store.gates()
    assert gate.closed_until is not None
    return gate.closed_until - store.now_ms()


def test_a_closed_gate_tells_who_why_since_when_and_until_when(store: SQLStore) -> None:
    pause(store, "target", for_ms=MINUTE)
    (gate,) = store.gates()
    assert (gate.channel, gate.target, gate.kind, gate.reason, gate.actor) == (
        CHANNEL, "target", GateKind.PAUSE, "maintenance", "ada",
    )  # fmt: skip
    assert (gate.closed_since, gate.closed_until) == (NOW, NOW + MINUTE)


def test_a_gate_opens_when_its_time_has_come(store: SQLStore, clock: FakeClock) -> None:
    pause(store, for_ms=MINUTE)
    clock.advance(MINUTE - 1)
    assert len(store.gates()) == 1
    clock.advance(1)
    assert (store.gates(), len(store.gates(closed_only=False))) == ([], 1)


def test_a_gate_without_an_end_stays_closed_until_it_is_opened(store: SQLStore, clock: FakeClock) -> None:
    pause(store)
    clock.advance(365 * 24 * 60 * MINUTE)
    assert [gate.closed_until for gate in store.gates()] == [None]
    assert store.reopen(CHANNEL, "") == 1
    assert store.gates() == []


def test_closing_again_replaces_what_stood_there(store: SQLStore, clock: FakeClock) -> None:
    pause(store, for_ms=MINUTE)
    clock.advance(SECOND)
    pause(store)
    (gate,) = store.gates()
    assert (gate.closed_since, gate.closed_until) == (NOW + SECOND, None)


def test_gates_of_different_kinds_stand_beside_each_other(store: SQLStore) -> None:
    pause(store)
    not_ready(store)
    assert {gate.kind for gate in store.gates()} == {GateKind.PAUSE, GateKind.NOT_READY}
    assert store.reopen(CHANNEL, "", GateKind.NOT_READY) == 1
    assert {gate.kind for gate in store.gates()} == {GateKind.PAUSE}


def test_one_destination_the_channel_itself_or_all_of_it_is_opened(store: SQLStore) -> None:
    for target in ("", "a", "b"):
        pause(store, target)
    store.close("email", "", GateKind.PAUSE, for_ms=None, reason="")
    assert store.reopen(CHANNEL, "a") == 1
    assert store.reopen(CHANNEL, "") == 1
    assert [gate.target for gate in store.gates() if gate.channel == CHANNEL] == ["b"]
    assert store.reopen(CHANNEL, None) == 1
    assert [gate.channel for gate in store.gates()] == ["email"]
    assert store.reopen("nobody", None) == 0


@pytest.mark.proves("T14")
def test_t14_a_channel_that_stays_unready_closes_for_longer_each_time_up_to_five_minutes(
    store: SQLStore, clock: FakeClock
) -> None:
    closures = []
    for _ in range(20):
        not_ready(store)
        closures.append(closed_for(store))
        clock.advance(closures[-1])
    assert closures[0] == 5 * SECOND
    assert closures == sorted(closures)
    assert closures[-1] == 5 * MINUTE


def test_after_a_minute_of_readiness_the_closures_start_short_again(store: SQLStore, clock: FakeClock) -> None:
    for _ in range(10):
        not_ready(store)
        clock.advance(closed_for(store))
    clock.advance(MINUTE)
    not_ready(store)
    assert closed_for(store) == 5 * SECOND


def test_a_straggler_does_not_shorten_the_closure_that_another_asked_for(store: SQLStore, clock: FakeClock) -> None:
    store.close_growing(CHANNEL, GateKind.NOT_READY, at_least_ms=10 * MINUTE, reason="maintenance window")
    clock.advance(SECOND)
    not_ready(store)
    assert closed_for(store) == 10 * MINUTE - SECOND


def test_a_channel_that_names_its_own_pause_gets_at_least_that(store: SQLStore) -> None:
    store.close_growing(CHANNEL, GateKind.NOT_READY, at_least_ms=2 * MINUTE, reason="maintenance window")
    assert closed_for(store) == 2 * MINUTE


def test_pauses_and_resumptions_are_on_record_with_who_why_and_when(store: SQLStore, clock: FakeClock) -> None:
    pause(store)
    clock.advance(SECOND)
    store.reopen(CHANNEL, "", actor="bob", reason="they answer again")
    resumed, paused = store.gate_operations(10)
    assert paused == GateOperation(CHANNEL, "pause", GateKind.PAUSE, NOW, "ada", "maintenance")
    assert resumed == GateOperation(CHANNEL, "resume", GateKind.PAUSE, NOW + SECOND, "bob", "they answer again")
    assert store.gate_operations(1) == [resumed]


def test_each_gate_that_was_opened_is_on_record_with_its_target_and_its_kind(store: SQLStore) -> None:
    not_ready(store)
    store.close(CHANNEL, "a", GateKind.GONE, for_ms=None, reason="HTTP 410")
    pause(store, "b", for_ms=MINUTE)
    store.reopen(CHANNEL, None, actor="bob", reason="moved")
    opened = [(each.kind, each.reason) for each in store.gate_operations(10) if each.action == "resume"]
    assert sorted(opened) == [(GateKind.GONE, "a: moved"), (GateKind.NOT_READY, "moved"), (GateKind.PAUSE, "b: moved")]


def test_what_the_engine_closes_and_what_was_not_closed_is_no_operators_doing(store: SQLStore) -> None:
    not_ready(store)
    store.close(CHANNEL, "a", GateKind.GONE, for_ms=None, reason="HTTP 410")
    store.reopen("nobody", None, actor="bob")
    assert store.gate_operations(10) == []


def test_a_gate_reads_back_as_it_was_written(store: SQLStore) -> None:
    store.close(CHANNEL, "t", GateKind.GONE, for_ms=None, reason="HTTP 410")
    assert store.gates() == [Gate(CHANNEL, "t", GateKind.GONE, NOW, None, "HTTP 410")]
