"""Processes that die in the middle of a send, and what becomes of the messages they held.

Leases and horizons are longer than any test waits and nothing maintains, unless a test says otherwise: what comes back was
brought back by the parent of the dead process.
"""

from pathlib import Path

import pytest

from outbox.integrations.celery.names import RELAY_QUEUE, RELAY_TASK
from tests.crash.arming import Act, Plans
from tests.integration.celery.application import DEATHS
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import eventually
from tests.integration.celery.stack import Stack

LONG_MS = 600_000


def assert_rescued(stack: Stack, ids: list[str]) -> None:
    """The first two were being sent when their process died, and cost two attempts; the others were not begun, and cost one."""
    assert [message.attempt_count for message in stack.messages(ids)] == [2, 2, *([1] * (len(ids) - 2))]
    assert stack.ledger.counts() == {**dict.fromkeys(ids, 1), **dict.fromkeys(ids[:2], 2)}
    first, second = stack.ledger.arrivals(ids[0])
    assert (first.attempt, first.is_recovery) == (1, False)
    assert (second.attempt, second.is_recovery) == (2, True)
    assert first.key == second.key
    assert first.pid != second.pid
    [record] = stack.outbox.attempts(ids[0])
    assert (record.outcome, record.error) == ("rescued", "the worker process died during the send")
    assert stack.losses() == []
    assert stack.outbox.store.violations(10) == []


@pytest.mark.parametrize(
    ("url", "death"), [*(("sqlite_url", death) for death in DEATHS), ("postgres_url", "kill"), ("postgres_url", "exit 3")]
)
def test_what_a_dead_pool_process_held_is_brought_back_at_once_by_its_parent(
    make_stack: MakeStack, request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, url: str, death: str
) -> None:
    stack = make_stack(request.getfixturevalue(url), redis_url, horizon_ms=LONG_MS)
    worker = stack.worker(concurrency=1)
    never = str(tmp_path / "never")
    with stack.transaction() as transaction:
        ids = [
            stack.outbox.enqueue(transaction, "patient", payload=payload).id
            for payload in (
                {"wait_for": f"{stack.ledger.path}-both", "die": death}, {"wait_for": never}, None, None, None, None,
            )
        ]  # fmt: skip
    assert stack.relay()["tasks"] == 1
    stack.await_arrivals(ids[0])
    stack.await_arrivals(ids[1])
    Path(f"{stack.ledger.path}-both").touch()

    stack.relay_until(delivered=len(ids))

    assert_rescued(stack, ids)
    assert worker.is_running()


def test_a_pool_process_whose_end_its_node_did_not_hear_is_found_all_the_same(
    make_stack: MakeStack, sqlite_url: str, redis_url: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS, deaf=True)
    stack.worker(concurrency=1)
    ids = stack.enqueue("patient", payload={"die": "kill"})

    stack.relay_until(delivered=1)

    [record] = stack.outbox.attempts(ids[0])
    assert record.error == "the worker process died during the send"


def test_what_a_terminated_task_held_is_brought_back_at_once(
    make_stack: MakeStack, tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS)
    worker = stack.worker(concurrency=1)
    never = {"wait_for": str(tmp_path / "never")}
    ids = stack.enqueue("patient", 2, payload=never) + stack.enqueue("patient", 3)
    assert stack.relay()["tasks"] == 1
    stack.await_arrivals(ids[1])
    control = stack.application.app.control
    [[task]] = control.inspect(destination=["worker-1@here"]).active().values()
    control.revoke(task["id"], terminate=True)

    stack.relay_until(delivered=len(ids))

    assert [message.attempt_count for message in stack.messages(ids)] == [2, 2, 1, 1, 1]
    assert worker.is_running()


@pytest.mark.parametrize("moment", ["claim.committed", "publish.next"])
def test_what_a_pool_process_had_claimed_and_not_published_is_due_again_at_once(
    make_stack: MakeStack, tmp_path: Path, database_url: str, redis_url: str, moment: str
) -> None:
    plans = tmp_path / "plans"
    plans.mkdir()
    Plans(plans).lay(moment, {1: Act.KILL})
    stack = make_stack(database_url, redis_url, horizon_ms=LONG_MS, plans=str(plans))
    worker = stack.worker(concurrency=1)
    ids = stack.enqueue("patient", 3)
    stack.application.app.send_task(RELAY_TASK, queue=RELAY_QUEUE)
    eventually(Plans(plans).deeds, f"a death at {moment}")

    stack.await_statuses(queued=len(ids))

    assert stack.relay()["claimed"] == len(ids)
    stack.await_statuses(delivered=len(ids))
    assert [message.attempt_count for message in stack.messages(ids)] == [1] * len(ids)
    assert worker.is_running()


@pytest.mark.proves("T12")
def test_a_message_that_kills_whoever_sends_it_dies_alone_and_after_its_attempts(
    make_stack: MakeStack, sqlite_url: str, redis_url: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS)
    stack.worker(concurrency=1)
    [poison] = stack.enqueue("patient", payload={"die": "kill", "on": [1, 2, 3]}, max_attempts=3)
    others = stack.enqueue("patient", 5)

    stack.relay_until(delivered=5, failed_terminal=1)

    assert [arrival.attempt for arrival in stack.ledger.arrivals(poison)] == [1, 2, 3]
    assert stack.outbox.get(poison).terminal_reason == "attempts used up"
    assert max(message.attempt_count for message in stack.messages(others)) <= 2  # one may have been in the first window


@pytest.mark.proves("T11", "T13", "R10")
def test_what_a_dead_node_was_sending_is_sent_by_another_when_the_lease_has_run_out(
    make_stack: MakeStack, tmp_path: Path, database_url: str, redis_url: str, pool: str
) -> None:
    stack = make_stack(database_url, redis_url, lease_margin_s=1, horizon_ms=1000)
    doomed = stack.worker(pool=pool, queues=["outbox.brief"])
    ids = stack.enqueue("brief", 1, payload={"wait_for": str(tmp_path / "never")}) + stack.enqueue("brief", 2)
    stack.relay()
    stack.await_arrivals(ids[0])
    doomed.kill()
    stack.worker(pool=pool)
    stack.beat()

    stack.await_statuses(delivered=3)

    assert [message.attempt_count for message in stack.messages(ids)] == [2, 1, 1]
    [record] = stack.outbox.attempts(ids[0])
    assert record.error == "the lease ran out during the send: the worker died, or lost its database"
    assert stack.outbox.store.violations(10) == []


@pytest.mark.parametrize("how", ["signal", "remote control"])
def test_a_worker_told_to_stop_ends_what_is_under_way_and_gives_back_the_rest_at_once(
    make_stack: MakeStack, tmp_path: Path, sqlite_url: str, redis_url: str, pool: str, how: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS, budget_s=600)
    worker = stack.worker(pool=pool, queues=["outbox.patient"])
    gate = tmp_path / "gate"
    ids = stack.enqueue("patient", 2, payload={"wait_for": str(gate)}) + stack.enqueue("patient", 8)
    assert stack.relay()["tasks"] == 1
    stack.await_arrivals(ids[1])
    if how == "signal":
        worker.terminate()
    else:
        stack.application.app.control.shutdown()

    stack.await_statuses(sending=2, queued=8)  # while the two are still under way
    gate.touch()
    worker.await_end()

    assert stack.statuses() == {"delivered": 2, "queued": 8}
    assert [message.attempt_count for message in stack.messages(ids)] == [1, 1, *([0] * 8)]
    stack.worker(pool=pool, queues=["outbox.patient"])
    stack.relay_until(delivered=10)
    stack.was_sent_once(ids)
