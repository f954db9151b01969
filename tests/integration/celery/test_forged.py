"""Messages that no relay of this release wrote: they change nothing, and the worker goes on."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection

from outbox import Message
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import eventually
from tests.integration.celery.stack import Stack

TASK = "outbox.deliver.bulk"
Kwargs = dict[str, Any]

FORGERIES: dict[str, Callable[[list[Message]], Kwargs]] = {
    "of a later version": lambda rows: {"v": 2, "claims": [[row.id, 0] for row in rows]},
    "of no version": lambda rows: {"claims": [[row.id, 0] for row in rows]},
    "without claims": lambda _rows: {"v": 1},
    "claims are text": lambda _rows: {"v": 1, "claims": "everything"},
    "claims are a mapping": lambda rows: {"v": 1, "claims": {row.id: 0 for row in rows}},
    "one claim is not one": lambda rows: {"v": 1, "claims": [*([row.id, 0] for row in rows), [rows[0].id]]},
    "a lease is text": lambda rows: {"v": 1, "claims": [[row.id, "0"] for row in rows]},
    "leases nobody has": lambda rows: {"v": 1, "claims": [[row.id, lease] for row in rows for lease in (1, 2, 10**6)]},
    "a lease below all": lambda rows: {"v": 1, "claims": [[row.id, -1] for row in rows]},
    "a lease beyond any integer column": lambda rows: {"v": 1, "claims": [[row.id, 10**30] for row in rows]},
    "ids nobody has": lambda _rows: {"v": 1, "claims": [[str(uuid.uuid4()), 0] for _ in range(100)]},
    "an id beyond any text column": lambda rows: {"v": 1, "claims": [[row.id, 0] for row in rows] + [["\x00", 0]]},
    "an id without end": lambda rows: {"v": 1, "claims": [[row.id, 0] for row in rows] + [["x" * 10**6, 0]]},
    "too many claims": lambda rows: {"v": 1, "claims": [[row.id, 0] for row in rows] * 5_001},
    "deeply nested": lambda _rows: {"v": 1, "claims": json.loads("[" * 50 + "]" * 50)},
}  # fmt: skip


def forge(stack: Stack, task: str, body: Any, **properties: Any) -> None:
    """Publish as anyone could who reaches the broker."""
    identity = str(uuid.uuid4())
    headers = {"lang": "py", "task": task, "id": identity, "root_id": identity, "parent_id": None, "group": None}
    options = {"serializer": "json", "correlation_id": identity, "headers": headers, **properties}
    options.setdefault("routing_key", task.replace(".deliver", ""))
    with Connection(stack.settings.broker) as connection, connection.Producer() as producer:
        producer.publish(body, exchange="", **options)


def as_body(kwargs: Kwargs, *arguments: Any) -> list[Any]:
    return [list(arguments), kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def await_end_of_queues(stack: Stack) -> None:
    """Wait until the worker has dealt with everything that was published: the last message of all is a real one."""
    with Connection(stack.settings.broker) as connection:
        channel = connection.default_channel
        queues = ["outbox.relay", "outbox.bulk", "outbox.loop"]
        eventually(lambda: not any(channel._size(queue) for queue in queues), "the queues are empty")
    [last] = stack.enqueue("single")
    stack.relay()
    eventually(lambda: stack.outbox.get(last).status == "delivered", "the last message")


@pytest.fixture
def scene(make_stack: MakeStack, database_url: str, redis_url: str) -> tuple[Stack, list[Message]]:
    """Two dispatched messages whose genuine broker message is lost, and a worker that runs one task at a time."""
    stack = make_stack(database_url, redis_url, horizon_ms=600_000)
    ids = stack.enqueue("bulk", 2)
    stack.relay()
    with Connection(redis_url) as connection:
        assert connection.default_channel.queue_purge("outbox.bulk") == 1
    stack.worker(concurrency=1)
    return stack, stack.messages(ids)


def test_a_message_that_no_relay_wrote_changes_nothing(scene: tuple[Stack, list[Message]]) -> None:
    stack, before = scene
    genuine = {"v": 1, "claims": [[row.id, row.lease] for row in before]}
    for kwargs in FORGERIES.values():
        forge(stack, TASK, as_body(kwargs(before)))
    forge(stack, TASK, as_body({"v": 1, "claims": []}, "a positional argument", 2, 3, 4, 5, 6))
    forge(stack, TASK, as_body(genuine), serializer="pickle")
    forge(stack, TASK, "no task at all", headers={})
    forge(stack, TASK, "{", serializer=None, content_type="application/json", content_encoding="utf-8")
    forge(stack, TASK, "", serializer=None, content_type="text/plain", content_encoding="utf-8")
    await_end_of_queues(stack)

    [worker] = stack.nodes
    assert worker.is_running()
    assert stack.messages([row.id for row in before]) == before
    assert {arrival.channel for arrival in stack.ledger.arrivals()} == {"single"}
    assert worker.log().count("a message for channel bulk was ignored") == len(FORGERIES) - 2  # two are of rows nobody has


def test_messages_of_a_newer_release_that_say_more_are_understood(scene: tuple[Stack, list[Message]]) -> None:
    stack, before = scene
    claims = [[row.id, row.lease] for row in before]
    forge(stack, TASK, as_body({"v": 1, "claims": claims, "of": "a newer release"}))
    stack.await_statuses(delivered=2)
    [later] = stack.enqueue("single")
    forge(stack, "outbox.relay", as_body({"of": "a newer release"}))
    forge(stack, "outbox.maintain", as_body({"of": "a newer release"}), routing_key="outbox.relay")
    stack.await_statuses(delivered=3)
    stack.nodes[0].says("Task outbox.maintain")
    stack.was_sent_once([*(row.id for row in before), later])


def test_rows_of_one_channel_are_never_sent_through_another(scene: tuple[Stack, list[Message]]) -> None:
    stack, before = scene
    forge(stack, "outbox.deliver.loop", as_body({"v": 1, "claims": [[row.id, row.lease] for row in before]}))
    stack.relay_until(delivered=2)
    stack.was_sent_once([row.id for row in before])
    assert {arrival.channel for arrival in stack.ledger.arrivals()} == {"bulk"}
