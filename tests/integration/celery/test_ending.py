"""A process that ends in good order while its database takes nothing: what it has sent is recorded before it goes.

No lease runs out within a test and nothing maintains: what is not recorded by that process never is.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import make_url

from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import Node
from tests.integration.celery.stack import Stack

LONG_MS = 600_000
LOCKED_ON_S = 4.0
"""After the task has failed: a process that did not wait would be gone."""


def send_with_a_locked_database(stack: Stack, node: Node, gate: Path, end: Callable[[], None]) -> None:
    """A message is sent, its task fails for the lock of another program, and that is released only when the process ends."""
    (message_id,) = stack.enqueue("patient", payload={"wait_for": str(gate)})
    assert stack.relay()["tasks"] == 1
    stack.await_arrivals(message_id)
    lock = sqlite3.connect(str(make_url(stack.settings.database).database), isolation_level=None)
    lock.execute("begin immediate")
    end()
    gate.touch()
    node.says("SettleDelayed")
    time.sleep(LOCKED_ON_S)
    lock.close()
    stack.await_statuses(delivered=1)
    stack.was_sent_once([message_id])


def test_a_worker_that_is_told_to_stop_waits_for_its_database(
    make_stack: MakeStack, tmp_path: Path, sqlite_url: str, redis_url: str, pool: str
) -> None:
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS, busy_timeout_ms=20)
    node = stack.worker(pool=pool).await_ready()

    send_with_a_locked_database(stack, node, tmp_path / "gate", end=node.terminate)

    node.await_end()


def test_a_pool_process_that_is_replaced_waits_for_its_database(
    make_stack: MakeStack, tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    conf = {"worker_max_tasks_per_child": 1}
    stack = make_stack(sqlite_url, redis_url, horizon_ms=LONG_MS, busy_timeout_ms=20, conf=conf)
    node = stack.worker(concurrency=1).await_ready()

    send_with_a_locked_database(stack, node, tmp_path / "gate", end=lambda: None)
