"""R16: what became of a turn."""

import pytest

from outbox.lifecycle import ACTIVE, Status
from outbox.policy.turns import TurnStatus, turn_status


def test_a_turn_of_which_nothing_is_kept_is_unknown() -> None:
    assert turn_status({}) is TurnStatus.UNKNOWN
    assert turn_status({Status.DELIVERED: 0}) is TurnStatus.UNKNOWN


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_a_turn_with_an_active_message_is_active_whatever_else_it_has(status: Status) -> None:
    others = {Status.DELIVERED: 3, Status.FAILED_TERMINAL: 1, Status.EXPIRED: 1, Status.CANCELLED: 1}
    assert turn_status({status: 1}) is TurnStatus.ACTIVE
    assert turn_status({**others, status: 1}) is TurnStatus.ACTIVE


@pytest.mark.proves("R16")
def test_a_parked_message_keeps_its_turn_active() -> None:
    assert turn_status({Status.PARKED: 1, Status.DELIVERED: 1}) is TurnStatus.ACTIVE


@pytest.mark.proves("R16")
def test_a_turn_is_delivered_with_one_delivered_and_none_failed() -> None:
    assert turn_status({Status.DELIVERED: 1}) is TurnStatus.DELIVERED
    assert turn_status({Status.DELIVERED: 1, Status.CANCELLED: 4}) is TurnStatus.DELIVERED


@pytest.mark.parametrize("status", [Status.FAILED_TERMINAL, Status.EXPIRED])
def test_one_failed_message_fails_its_turn(status: Status) -> None:
    assert turn_status({Status.DELIVERED: 9, status: 1}) is TurnStatus.FAILED


def test_a_turn_that_was_only_cancelled_was_not_delivered() -> None:
    assert turn_status({Status.CANCELLED: 1}) is TurnStatus.FAILED
