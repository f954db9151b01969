"""The transition table is closed, and the documented diagram is drawn from it."""

import pytest

from docs import state_machine
from outbox.lifecycle import (
    ACTIVE,
    CANCELLABLE,
    DUE,
    EXPIRABLE,
    REPLAYABLE,
    TERMINAL,
    TRANSITIONS,
    Event,
    Status,
    sources,
    target,
)

OPERATORS = {Event.CANCEL, Event.REPLAY, Event.RESOLVE_SENT}


def reachable(start: Status, *, without: frozenset[Event] | set[Event] = frozenset()) -> set[Status]:
    """Every status that a row in ``start`` can come to."""
    found = {start}
    while True:
        more = {t.target for event, t in TRANSITIONS.items() if event not in without and t.target and t.sources & found}
        if more <= found:
            return found
        found |= more


def test_every_event_has_its_line_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Event)
    assert all(transition.sources and transition.meaning for transition in TRANSITIONS.values())


def test_every_status_is_active_or_terminal_and_none_is_both() -> None:
    assert set(Status) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL
    assert {Status.DELIVERED, Status.FAILED_TERMINAL, Status.EXPIRED, Status.CANCELLED} == TERMINAL


def test_every_status_can_be_reached_from_an_enqueue_without_an_operator() -> None:
    assert reachable(Status.QUEUED, without=OPERATORS) == set(Status)


@pytest.mark.parametrize("status", sorted(ACTIVE - {Status.PARKED}))
def test_every_active_status_comes_to_every_end_without_an_operator(status: Status) -> None:
    assert reachable(status, without=OPERATORS) >= TERMINAL


def test_a_parked_message_waits_for_an_operator_or_a_late_success() -> None:
    assert {event for event in Event if Status.PARKED in sources(event)} == {*OPERATORS, Event.DELIVER_LATE}


@pytest.mark.proves("R3")
@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_invariant_9_a_terminal_status_is_left_only_by_an_operator_or_a_late_success(status: Status) -> None:
    leaving = {event for event in Event if status in sources(event)}
    assert leaving == ({Event.REPLAY} if status is Status.DELIVERED else {Event.REPLAY, Event.DELIVER_LATE})


def test_a_delivered_message_is_never_delivered_again_by_the_engine() -> None:
    assert reachable(Status.DELIVERED, without=OPERATORS) == {Status.DELIVERED}


def test_only_a_send_under_way_can_fail_and_none_under_way_expires_or_is_cancelled() -> None:
    for event in (Event.RETRY, Event.FAIL, Event.PARK, Event.SUPPRESS, Event.DELIVER):
        assert sources(event) == {Status.SENDING}
    for event in (Event.EXPIRE, Event.CANCEL, Event.REPLAY, Event.CLAIM, Event.TAKE, Event.POSTPONE):
        assert Status.SENDING not in sources(event)


def test_the_named_groups_are_those_of_the_table() -> None:
    assert sources(Event.CLAIM) == DUE
    assert sources(Event.EXPIRE) == EXPIRABLE
    assert sources(Event.CANCEL) == CANCELLABLE
    assert sources(Event.REPLAY) == REPLAYABLE


def test_an_event_that_keeps_the_status_leads_to_none() -> None:
    assert target(Event.TAKE) is Status.SENDING
    with pytest.raises(ValueError, match="redispatch keeps the status"):
        target(Event.REDISPATCH)


def test_the_documented_diagram_is_the_table() -> None:
    assert state_machine.PAGE.read_text(encoding="utf-8") == state_machine.page(), "run `python -m docs.state_machine`"


def test_the_diagram_draws_every_change_but_the_late_success() -> None:
    drawn = state_machine.diagram()
    for event, transition in TRANSITIONS.items():
        if event is not Event.DELIVER_LATE:
            for source in transition.sources:
                arrow = f"{source} --> {transition.target or source}: "
                assert any(line.strip().startswith(arrow) and event in line for line in drawn.splitlines())
