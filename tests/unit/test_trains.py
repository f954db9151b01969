"""Jobs of one key that were taken together: one at a time, in order, and none behind one that was not delivered."""

from typing import Any

from outbox.channels.base import FunctionChannel
from outbox.judging import attempt_of
from outbox.message import Claim
from outbox.sending import Job
from outbox.trains import Trains
from tests import factories

CHANNEL = FunctionChannel("chat", lambda _message, _attempt: None)


def job(name: str, **fields: Any) -> Job:
    message = factories.message(id=name, channel="chat", **fields)
    return Job(CHANNEL, message, attempt_of(message, CHANNEL), begin_by=0.0, done=lambda _job, _outcome: None)


def coupled(*names: str) -> tuple[Trains, dict[str, Job], list[str]]:
    """``a1`` is the first of key ``a``; a name of one letter has no key."""
    trains, jobs = Trains(), {name: job(name) for name in names}
    window = [Claim(name, 0, ordering_key=name[0] if len(name) > 1 else None) for name in names]
    first = trains.couple(window, list(jobs.values()))
    return trains, jobs, [each.message.id for each in first]


def test_the_first_of_each_key_and_all_without_one_begin() -> None:
    trains, jobs, first = coupled("a1", "x", "b1", "a2", "y")
    assert first == ["a1", "x", "b1", "y"]
    assert [name for name, each in jobs.items() if trains.is_waiting(each)] == ["a2"]


def test_the_next_begins_when_the_one_before_was_delivered() -> None:
    trains, jobs, _ = coupled("a1", "a2", "a3")
    assert trains.delivered(jobs["a1"]) is jobs["a2"]
    assert trains.delivered(jobs["a2"]) is jobs["a3"]
    assert trains.delivered(jobs["a3"]) is None


def test_those_behind_one_that_was_not_delivered_leave_in_order_and_never_begin() -> None:
    trains, jobs, _ = coupled("a1", "a2", "a3", "b1")
    assert trains.not_delivered(jobs["a1"]) == [jobs["a2"], jobs["a3"]]
    assert trains.delivered(jobs["a1"]) is None
    assert trains.not_delivered(jobs["a2"]) == []
    assert trains.not_delivered(jobs["b1"]) == []


def test_one_that_is_taken_out_of_the_middle_takes_those_behind_it_along() -> None:
    trains, jobs, _ = coupled("a1", "a2", "a3", "a4")
    assert trains.not_delivered(jobs["a3"]) == [jobs["a4"]]
    assert trains.delivered(jobs["a1"]) is jobs["a2"]
    assert trains.delivered(jobs["a2"]) is None


def test_a_claim_that_came_twice_is_one_job() -> None:
    trains, only = Trains(), job("a1")
    assert trains.couple([Claim("a1", 0, "a"), Claim("a1", 0, "a")], [only]) == [only]
    assert trains.delivered(only) is None


def test_a_claim_that_was_not_admitted_has_no_place() -> None:
    trains, second = Trains(), job("a2")
    assert trains.couple([Claim("a1", 0, "a"), Claim("a2", 0, "a")], [second]) == [second]
