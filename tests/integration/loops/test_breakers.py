"""A breaker that opens while a task is under way."""

from outbox import Outbox, RetryLater
from outbox.policy.destination import Breaker
from outbox.store.records import GateState
from tests.integration.loops.scene import Chat, deliver, enqueue_many, raising, statuses


def test_a_task_sends_nothing_more_once_a_breaker_has_opened_and_gives_back_what_it_has_not_begun(outbox: Outbox) -> None:
    chat = Chat(behaviour=raising(RetryLater("down")), concurrency=5, target_breaker=Breaker(failures=5))
    outbox.register(chat)
    ids = enqueue_many(outbox, 100, target="them")
    report = deliver(outbox)
    assert [(gate.target, gate.state) for gate in outbox.store.gates()] == [("them", GateState.CLOSED)]
    assert len(chat.sent) < 20  # five, and the few that had begun by then
    assert report.released == 100 - len(chat.sent)
    assert statuses(outbox, ids).count("queued") == report.released


def test_a_breaker_that_opens_keeps_no_message_from_another_target(outbox: Outbox) -> None:
    chat = Chat(behaviour={"them": raising(RetryLater("down"))}, concurrency=5, target_breaker=Breaker(failures=5))
    outbox.register(chat)
    enqueue_many(outbox, 50, target="them")
    healthy = enqueue_many(outbox, 50, target="us")
    outbox.drain()
    assert statuses(outbox, healthy) == ["delivered"] * 50
    assert chat.sent.count("them") < 20
