"""The line to the broker loses an answer, or falls silent, while somebody publishes over it."""

from outbox.telemetry import BrokerFailed, Event, Nudged, NudgeFailed
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import eventually
from tests.servers.proxy import line_to


def test_a_line_that_breaks_amid_publishing_leaves_every_message_to_be_sent_once(
    make_stack: MakeStack, sqlite_url: str, redis_url: str
) -> None:
    with line_to(redis_url) as (line, through):
        stack = make_stack(sqlite_url, through, horizon_ms=1000)
        ids = stack.enqueue("single", 20)
        line.lose_the_answer_to(ids[10].encode())
        stack.relay()
        assert line.lost.is_set()
        assert stack.statuses() == {"queued": 20}  # although eleven of them are with the broker
        stack.worker(broker=redis_url)

        stack.relay_until(delivered=20)

        stack.was_sent_once(ids)


def test_a_line_that_falls_silent_holds_up_no_commit_and_costs_no_attempt(
    make_stack: MakeStack, sqlite_url: str, redis_url: str
) -> None:
    with line_to(redis_url) as (line, through):
        stack = make_stack(sqlite_url, through, nudging=True)
        events: list[Event] = []
        stack.outbox.telemetry.subscribe(events.append)
        ids = stack.enqueue("bulk")
        eventually(lambda: any(isinstance(event, Nudged) for event in events), "a nudge")

        line.freeze()
        ids += stack.enqueue("bulk")
        assert not any(isinstance(event, NudgeFailed) for event in events)  # it has yet to give up, and the commit is done
        eventually(lambda: any(isinstance(event, NudgeFailed) for event in events), "a nudge that gives up")
        assert stack.relay() == {"claimed": 0, "redispatched": 0, "tasks": 0}
        assert [event.released for event in events if isinstance(event, BrokerFailed)] == [2]
        assert [(message.status, message.attempt_count) for message in stack.messages(ids)] == [("queued", 0)] * 2

        line.mend()
        stack.worker(broker=redis_url)
        stack.relay_until(delivered=2)
        stack.was_sent_once(ids)


def test_a_node_whose_line_falls_silent_keeps_no_message_from_the_others(
    make_stack: MakeStack, sqlite_url: str, redis_url: str, pool: str
) -> None:
    with line_to(redis_url) as (line, through):
        stack = make_stack(sqlite_url, redis_url, horizon_ms=1000)
        cut_off = stack.worker(pool=pool, broker=through).await_ready()
        line.freeze()
        other = stack.worker(pool=pool)
        ids = stack.enqueue("single", 20)
        stack.relay_until(delivered=20)

        line.mend()
        other.stop()
        ids += stack.enqueue("single")
        eventually(lambda: (cut_off.revive(), stack.relay(), stack.statuses()["delivered"] == 21)[-1], "the node comes back")
        stack.was_sent_once(ids)
