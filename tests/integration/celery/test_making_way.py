"""A node all of whose slots are held by sends that take long: whoever waits for a slot gets one, and the sends go on.

Leases and horizons are longer than any test waits and nothing maintains: what comes back was brought back by its node.
"""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from outbox.integrations.celery import envelope
from outbox.integrations.celery.names import channel_queue, deliver_task
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import Node, eventually
from tests.integration.celery.stack import Stack

LONG_MS = 600_000
SLOTS = 2


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def hold_all_slots(stack: Stack, gate: Path, channel: str = "patient") -> list[str]:
    """Messages whose sends wait for the gate, in as many tasks as there are slots."""
    ids: list[str] = []
    for _ in range(SLOTS):
        ids += stack.enqueue(channel, 4, payload={"wait_for": str(gate)})
        assert stack.relay()["tasks"] == 1
        stack.await_arrivals(ids[-4])
    return ids


def make_way(stack: Stack, others: int = 5) -> None:
    """So many other messages wait for a slot, and get one."""
    ids = stack.enqueue("single", others)
    stack.relay()
    eventually(
        lambda: {message.status for message in stack.messages(ids)} == {"delivered"}, lambda: f"a slot: {stack.statuses()}"
    )


def wait_in_vain(stack: Stack, node: Node) -> list[str]:
    """Something else waits for a slot, and gets none."""
    ids = stack.enqueue("single", 2)
    stack.relay()
    node.says("Task outbox.deliver.single")
    time.sleep(1)
    assert {message.status for message in stack.messages(ids)} == {"dispatched"}
    return ids


def test_others_are_sent_while_a_channel_hangs(
    make_stack: MakeStack, gate: Path, sqlite_url: str, redis_url: str, pool: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS)
    node = stack.worker(pool=pool, concurrency=SLOTS)
    node.await_ready()
    ids = hold_all_slots(stack, gate)

    make_way(stack)
    make_way(stack)

    assert "'aside': 4" in node.log()
    more = stack.enqueue("patient", 2)
    stack.relay()
    gate.touch()
    stack.await_statuses(delivered=len(ids) + len(more) + 10)
    stack.was_sent_once(ids + more)


def test_a_channel_may_keep_its_slots(make_stack: MakeStack, gate: Path, sqlite_url: str, redis_url: str) -> None:
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS)
    node = stack.worker(concurrency=SLOTS)
    node.await_ready()
    ids = hold_all_slots(stack, gate, "stubborn")
    others = wait_in_vain(stack, node)
    gate.touch()

    stack.await_statuses(delivered=len(ids) + len(others))
    assert "'aside'" not in node.log()


@pytest.mark.parametrize("url", ["sqlite_url", "postgres_url"])
def test_what_went_on_aside_in_a_process_that_dies_is_brought_back_at_once(
    make_stack: MakeStack, request: pytest.FixtureRequest, gate: Path, url: str, redis_url: str
) -> None:
    stack = make_stack(request.getfixturevalue(url), redis_url, horizon_ms=LONG_MS)
    node = stack.worker(concurrency=SLOTS)
    node.await_ready()
    ids = hold_all_slots(stack, gate)
    make_way(stack)
    senders = {arrival.pid for message_id in ids for arrival in stack.ledger.arrivals(message_id)}

    for pid in senders:
        os.kill(pid, signal.SIGKILL)
    gate.touch()

    stack.relay_until(delivered=len(ids) + 5)
    attempts = [message.attempt_count for message in stack.messages(ids)]
    assert attempts == [2, 2, 1, 1] * SLOTS
    assert {record.error for message_id in ids for record in stack.outbox.attempts(message_id) if record.error} == {
        "the worker process died during the send"
    }
    assert stack.outbox.store.violations(10) == []


@pytest.mark.parametrize("moment", ["between two tasks", "in a later task"])
def test_what_a_task_that_went_on_aside_had_claimed_by_itself_is_brought_back_at_once(
    make_stack: MakeStack, gate: Path, sqlite_url: str, redis_url: str, moment: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS)
    stack.worker(concurrency=1).await_ready()
    ids = stack.enqueue("patient", 4, payload={"wait_for": str(gate)})
    stack.application.app.send_task(deliver_task("patient"), kwargs=envelope.pull(), queue=channel_queue("patient"))
    stack.await_arrivals(ids[1])
    make_way(stack)
    sender = stack.ledger.arrivals(ids[0])[0].pid
    if moment == "between two tasks":
        os.kill(sender, signal.SIGKILL)
    else:
        time.sleep(2)  # what has been claimed so shortly before that task might be taken for its own
        ids += stack.enqueue("single", payload={"die": "kill"})
        stack.relay()
    eventually(lambda: not psutil.pid_exists(sender), "the death")
    gate.touch()

    stack.relay_until(delivered=len(ids) + 5)
    assert [message.attempt_count for message in stack.messages(ids)] == [2, 2, 1, 1, 2][: len(ids)]
    assert stack.outbox.store.violations(10) == []


def test_a_message_that_may_have_killed_its_process_has_the_next_one_for_itself(
    make_stack: MakeStack, gate: Path, sqlite_url: str, redis_url: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS)
    node = stack.worker(concurrency=1)
    node.await_ready()
    [suspect] = stack.enqueue("patient", payload={"wait_for": str(gate), "on": [1, 2]})
    stack.relay()
    stack.await_arrivals(suspect)
    os.kill(stack.ledger.arrivals(suspect)[0].pid, signal.SIGKILL)
    eventually(lambda: stack.relay()["claimed"], "the rescue")
    stack.await_arrivals(suspect, 2)
    wait_in_vain(stack, node)
    gate.touch()

    stack.await_statuses(delivered=3)
    assert "'aside'" not in node.log()


def test_a_worker_told_to_stop_ends_what_goes_on_aside_and_gives_back_the_rest(
    make_stack: MakeStack, gate: Path, sqlite_url: str, redis_url: str, pool: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS)
    node = stack.worker(pool=pool, concurrency=SLOTS)
    node.await_ready()
    ids = hold_all_slots(stack, gate)
    make_way(stack)

    node.terminate()
    stack.await_statuses(sending=2 * SLOTS, queued=2 * SLOTS, delivered=5)  # while some are still under way
    gate.touch()
    node.await_end()

    assert stack.statuses() == {"delivered": 2 * SLOTS + 5, "queued": 2 * SLOTS}
    stack.worker(pool=pool)
    stack.relay_until(delivered=len(ids) + 5)
    stack.was_sent_once(ids)


def test_where_pool_processes_are_replaced_after_some_tasks_nobody_steps_aside(
    make_stack: MakeStack, gate: Path, sqlite_url: str, redis_url: str
) -> None:
    """One that waited for what it has aside, before it ends, would keep its slot and what the node has given it meanwhile."""
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS, conf={"worker_max_tasks_per_child": 2})
    node = stack.worker(concurrency=SLOTS)
    node.await_ready()
    ids = hold_all_slots(stack, gate)
    others = stack.enqueue("single", 6)
    stack.relay()
    node.says("Task outbox.deliver.single")

    time.sleep(1)
    gate.touch()

    stack.await_statuses(delivered=len(ids) + len(others))
    stack.was_sent_once(ids + others)
    assert "'aside'" not in node.log()
