"""What a commit sets off: where the channel is idle, a delivery task that claims by itself; otherwise a relay pass.

And what the end of a task sets off, where more is due than a channel may have under way.
"""

import time

import pytest
import redis
from celery import Celery
from sqlalchemy.orm import Session

from outbox import Outbox
from outbox.integrations.celery import install
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import eventually
from tests.integration.celery.stack import Stack


def waiting(broker: str, queue: str) -> int:
    with redis.Redis.from_url(broker) as client:
        return int(client.llen(queue))  # type: ignore[arg-type]


def commit_one(stack: Stack) -> str:
    """By a session, which tells of its commit after it."""
    with Session(stack.outbox.store.engine) as session, session.begin():
        return stack.outbox.enqueue(session, "bulk").id


def test_an_idle_channel_needs_neither_relay_nor_beat(
    make_stack: MakeStack, database_url: str, redis_url: str, pool: str
) -> None:
    stack = make_stack(database_url, redis_url, nudging=True)
    stack.worker(pool=pool, queues=["outbox.bulk"])
    stack.await_ready()
    ids = []
    for sent in range(1, 6):
        ids.append(commit_one(stack))
        stack.await_statuses(delivered=sent)
    stack.was_sent_once(ids)
    assert waiting(redis_url, "outbox.relay") == 0


def test_more_than_a_batch_wakes_the_relay_for_the_rest(make_stack: MakeStack, database_url: str, redis_url: str) -> None:
    stack = make_stack(database_url, redis_url, nudging=True)
    ids = stack.enqueue("bulk", 250)
    stack.worker(pool="threads", queues=["outbox.bulk", "outbox.relay"])
    stack.await_statuses(delivered=250)
    stack.was_sent_once(ids)


def test_where_tasks_wait_the_relay_is_woken_and_no_more_is_put_before_them(
    make_stack: MakeStack, sqlite_url: str, redis_url: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, nudging=True)
    stack.enqueue("bulk")
    eventually(lambda: waiting(redis_url, "outbox.bulk") == 1, "a task that claims by itself")
    assert waiting(redis_url, "outbox.relay") == 0
    stack.enqueue("bulk")
    eventually(lambda: waiting(redis_url, "outbox.relay") == 1, "a wake-up of the relay")
    assert waiting(redis_url, "outbox.bulk") == 1
    assert stack.statuses() == {"queued": 2}


def test_no_message_waits_for_a_look_at_a_channel_that_was_idle_after_the_last_one(
    make_stack: MakeStack, sqlite_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(sqlite_url, redis_url, nudging=True)
    stack.worker(pool="threads", queues=["outbox.bulk"])
    stack.await_ready()
    steps: list[object] = []
    publisher = stack.application.installation.nudge._publisher
    look, publish = publisher.waiting, publisher.publish

    def noted_look(queue: str) -> int:
        steps.append(found := look(queue))
        return found

    monkeypatch.setattr(publisher, "waiting", noted_look)
    monkeypatch.setattr(publisher, "publish", lambda publications: (steps.append("publish"), publish(publications)))
    for sent in range(1, 6):
        steps.append("commit")
        commit_one(stack)
        stack.await_statuses(delivered=sent)
        eventually(lambda: steps[-2:-1] == ["publish"], lambda: f"a look after each pull, not {steps}")
    seen_idle = [place for place in range(2, len(steps)) if steps[place - 1 : place + 1] == [0, "commit"]]
    assert seen_idle
    assert {steps[place + 1] for place in seen_idle} == {"publish"}


def test_a_channel_that_was_idle_and_has_lost_its_workers_gets_one_task_and_no_more(
    make_stack: MakeStack, sqlite_url: str, redis_url: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, nudging=True)
    worker = stack.worker(pool="threads", queues=["outbox.bulk"])
    stack.await_ready()
    commit_one(stack)
    stack.await_statuses(delivered=1)
    worker.stop()
    for queued in range(1, 4):
        commit_one(stack)
        eventually(
            lambda queued=queued: waiting(redis_url, "outbox.bulk") + waiting(redis_url, "outbox.relay") >= queued,
            f"{queued} tasks",
        )
        time.sleep(0.1)  # in which the channel is looked at again
    assert waiting(redis_url, "outbox.bulk") == 1


def test_two_tasks_that_claim_by_themselves_send_nothing_twice(
    make_stack: MakeStack, database_url: str, redis_url: str
) -> None:
    stack = make_stack(database_url, redis_url, nudging=True)
    workers = [stack.worker(pool="threads", queues=["outbox.single", "outbox.relay"]) for _ in range(2)]
    stack.await_ready()
    ids = [stack.enqueue("single")[0] for _ in range(40)]
    stack.await_statuses(delivered=40)
    stack.was_sent_once(ids)
    assert all(worker.is_running() for worker in workers)


def test_an_application_that_only_enqueues_wakes_the_relay(sqlite_url: str, redis_url: str) -> None:
    outbox = Outbox(sqlite_url)
    outbox.upgrade_schema()
    install(Celery("shop", broker=redis_url, set_as_current=False), outbox)
    with Session(outbox.store.engine) as session, session.begin():
        outbox.enqueue(session, "somewhere")
    eventually(lambda: waiting(redis_url, "outbox.relay") == 1, "a wake-up of the relay")
    assert waiting(redis_url, "outbox.somewhere") == 0
    outbox.close()


def test_whose_allowance_was_used_up_claims_the_next_before_the_last_are_sent(
    make_stack: MakeStack, database_url: str, redis_url: str, pool: str
) -> None:
    """A pass of the relay would wait in the pool behind them: it is nobody's here, and all are sent."""
    stack = make_stack(database_url, redis_url)
    ids = stack.enqueue("bulk", 2_250)
    assert stack.relay()["claimed"] == 1_000
    stack.worker(pool=pool, queues=["outbox.bulk"])
    stack.await_statuses(delivered=2_250)
    stack.was_sent_once(ids)
