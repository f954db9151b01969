"""Jobs of one key that were taken together: one at a time, in order, and none behind one that was not delivered."""

from typing import Any

from outbox.channels.base import FunctionChannel
from outbox.crew import send_in_order
from outbox.errors import RetryLater
from outbox.message import INHERITS_REPLY_TO, Attempt, Claim, Message
from outbox.outcome import Delivered, Outcome, Retry
from outbox.sending import Job, Train
from outbox.trains import couple
from tests import factories

FAILS = "fails"


def send(message: Message, _attempt: Attempt) -> None:
    if message.target == FAILS:
        raise RetryLater("not now")


CHANNEL = FunctionChannel("chat", send)


class Sent(dict[str, Outcome | None]):
    """What was heard, by id, in order."""

    def hear(self, job: Job, outcome: Outcome | None) -> None:
        self[job.message.id] = outcome


def job(name: str, sent: Sent | None = None, **fields: Any) -> Job:
    message = factories.message(id=name, channel="chat", **fields)
    return Job(CHANNEL, message, begin_by=float("inf"), done=(Sent() if sent is None else sent).hear)


def coupled(*jobs: Job) -> list[Train]:
    """``a1`` is the first of key ``a``; a name of one letter has no key."""
    names = [each.message.id for each in jobs]
    return couple([Claim(name, 0, ordering_key=name[0] if len(name) > 1 else None) for name in names], jobs)


def names(trains: list[Train]) -> list[list[str]]:
    return [[each.message.id for each in train] for train in trains]


def test_those_of_one_key_are_one_train_and_all_without_one_are_alone() -> None:
    assert names(coupled(*map(job, ["a1", "x", "b1", "a2", "y"]))) == [["a1", "a2"], ["x"], ["b1"], ["y"]]


def test_a_job_knows_who_must_be_delivered_before_it_and_who_waits_for_it() -> None:
    first, second, third = jobs = [job("a1"), job("a2"), job("a3")]
    coupled(*jobs)
    assert [each.before for each in jobs] == [None, first, second]
    assert [each.behind for each in jobs] == [[second, third], [third], []]


def test_they_are_sent_in_order() -> None:
    sent = Sent()
    (train,) = coupled(job("a1", sent), job("a2", sent), job("a3", sent))
    send_in_order(train)
    assert list(sent.items()) == [("a1", Delivered()), ("a2", Delivered()), ("a3", Delivered())]


def test_none_is_sent_behind_one_that_was_not_delivered() -> None:
    sent = Sent()
    (train,) = coupled(job("a1", sent), job("a2", sent, target=FAILS), job("a3", sent))
    send_in_order(train)
    assert list(sent.items()) == [("a1", Delivered()), ("a2", Retry("not now"))]


def test_none_is_sent_behind_one_that_was_given_up() -> None:
    sent = Sent()
    jobs = [job("a1", sent), job("a2", sent), job("a3", sent)]
    (train,) = coupled(*jobs)
    assert jobs[1].give_up()
    send_in_order(train)
    assert list(sent.items()) == [("a1", Delivered()), ("a2", None)]


def test_a_claim_that_came_twice_is_one_job() -> None:
    only = job("a1")
    assert couple([Claim("a1", 0, "a"), Claim("a1", 0, "a")], [only]) == [[only]]


def test_a_claim_that_was_not_admitted_has_no_place() -> None:
    second = job("a2")
    assert couple([Claim("a1", 0, "a"), Claim("a2", 0, "a")], [second]) == [[second]]


def test_t38_the_reply_to_of_a_reply_is_used_by_the_first_of_its_parts_alone() -> None:
    inherited = {"headers_json": f'{{"{INHERITS_REPLY_TO}":true}}', "payload_json": '{"text":"…","reply_to":"4711"}'}
    jobs = [job(name, turn_id=turn, **inherited) for name, turn in (("a1", "one"), ("a2", "one"), ("a3", "two"))]
    coupled(*jobs, plain := job("a4", payload_json='{"text":"…","reply_to":"4712"}'))
    assert [each.message.payload.get("reply_to") for each in (*jobs, plain)] == ["4711", None, "4711", "4712"]
