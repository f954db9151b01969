"""The broker may lose, repeat, delay or reorder anything, and may be away: the database is the only source of truth."""

import math
import random
import re
import time
from pathlib import Path

import pytest
import redis

from outbox.telemetry import BrokerFailed, Event, NudgeFailed
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import Node, eventually
from tests.servers.valkey import OwnValkeyServer


@pytest.mark.long_on("sqlite-prefork", "postgresql-threads")
def test_what_a_broker_lost_is_published_again_and_arrives_once(
    make_stack: MakeStack, tmp_path: Path, database_url: str, own_redis: OwnValkeyServer, pool: str
) -> None:
    stack = make_stack(database_url, own_redis.url, horizon_ms=4000)  # longer than a slow machine's pass
    stack.worker(pool=pool, concurrency=1)
    gate = tmp_path / "gate"
    ids = stack.enqueue("single", payload={"wait_for": str(gate)}) + stack.enqueue("single", 30) + stack.enqueue("bulk", 300)
    assert stack.relay()["tasks"] == 34
    stack.await_arrivals(ids[0])
    own_redis.flush()
    gate.touch()

    stack.relay_until(delivered=331)

    stack.was_sent_once(ids)


@pytest.mark.long_on("postgresql")
def test_a_broker_that_repeats_every_message_sends_nothing_twice(
    make_stack: MakeStack, database_url: str, redis_url: str
) -> None:
    stack = make_stack(database_url, redis_url)
    ids = stack.enqueue("single", 20) + stack.enqueue("bulk", 300)
    ids += [stack.enqueue("ordered", ordering_key=f"key {number % 3}")[0] for number in range(30)]
    stack.relay()
    queues = ["outbox.single", "outbox.bulk", "outbox.ordered"]
    with redis.Redis.from_url(redis_url) as broker:

        def push_again(messages: dict[str, list[bytes]]) -> None:
            for queue, copies in messages.items():
                broker.rpush(queue, *random.sample(copies, len(copies)))

        originals: dict[str, list[bytes]] = {queue: broker.lrange(queue, 0, -1) for queue in queues}  # type: ignore[misc]
        assert sum(map(len, originals.values())) == 24
        push_again(originals)
        push_again(originals)
        for pool in ("prefork", "threads"):
            stack.worker(pool=pool)
        stack.relay_until(delivered=350)
        push_again(originals)
        eventually(lambda: not any(broker.llen(queue) for queue in queues), "the copies are consumed")
        for node in stack.nodes:
            node.stop()

    stack.was_sent_once(ids)


def test_while_the_broker_is_down_or_frozen_enqueue_goes_on_and_nothing_is_charged(
    make_stack: MakeStack, sqlite_url: str, own_redis: OwnValkeyServer, pool: str
) -> None:
    stack = make_stack(sqlite_url, own_redis.url, nudging=True)
    events: list[Event] = []
    stack.outbox.telemetry.subscribe(events.append)
    worker = stack.worker(pool=pool)
    stack.beat()
    stack.await_ready()
    ids = stack.enqueue("bulk", 10)
    stack.await_statuses(delivered=10)

    def frozen_between_passes() -> bool:
        """The worker may hold a tick whose pass it cannot begin before the broker has answered something else."""
        own_redis.process.freeze()
        until = time.monotonic() + 2.0
        while relaying := _is_relaying(worker):
            if time.monotonic() > until:
                own_redis.process.thaw()
                break
            time.sleep(0.05)
        return not relaying

    eventually(frozen_between_passes, "the broker to be frozen between two passes")
    ids += stack.enqueue("bulk", 10)
    assert stack.relay() == {"claimed": 0, "redispatched": 0, "tasks": 0}
    assert stack.statuses() == {"delivered": 10, "queued": 10}
    own_redis.process.thaw()
    stack.await_statuses(delivered=20)

    own_redis.process.stop()
    ids += [stack.enqueue("bulk")[0] for _ in range(10)]

    def relay_has_failed_again() -> bool:
        stack.relay()
        return sum(isinstance(event, BrokerFailed) for event in events) == 2

    eventually(relay_has_failed_again, "a relay pass that fails")
    eventually(lambda: any(isinstance(event, NudgeFailed) for event in events), "a failed nudge")
    assert stack.statuses() == {"delivered": 20, "queued": 10}
    own_redis.process.start()

    def delivered() -> bool:
        for node in stack.nodes:
            node.revive()  # kombu may end a worker whose Redis goes away while a message is not acknowledged
        return stack.statuses() == {"delivered": 30}

    eventually(delivered, lambda: f"30 delivered, and there are {dict(stack.statuses())}")

    assert [event.released for event in events if isinstance(event, BrokerFailed)] == [10, 10]
    stack.was_sent_once(ids)


def test_a_wait_in_the_broker_longer_than_the_horizon_invalidates_no_copy_and_publishes_few(
    make_stack: MakeStack, tmp_path: Path, database_url: str, redis_url: str
) -> None:
    horizon_s = 1.0
    stack = make_stack(database_url, redis_url, horizon_ms=round(horizon_s * 1000))
    stack.worker(concurrency=1, queues=["outbox.single"])
    gate = tmp_path / "gate"
    ids = stack.enqueue("single", payload={"wait_for": str(gate)}) + stack.enqueue("single", 39)
    began = time.monotonic()
    copies = stack.relay()["tasks"]
    stack.await_arrivals(ids[0])

    def wait_three_horizons() -> bool:
        nonlocal copies
        copies += stack.relay()["redispatched"]
        return copies >= 40 + 3 * 39

    eventually(wait_three_horizons, lambda: f"three rounds of copies, and there are {copies}")
    # Each horizon is as long as the wait was by then, so the rounds are as many as the wait doubles.
    doublings = math.log2(max(1.0, (time.monotonic() - began) / horizon_s))
    assert copies <= 40 + 39 * (2 + doublings)
    assert {message.lease for message in stack.messages(ids[1:])} == {0}
    gate.touch()
    stack.await_statuses(delivered=40)

    stack.was_sent_once(ids)
    assert {message.lease for message in stack.messages(ids)} == {1}


def _is_relaying(node: Node) -> bool:
    """Whether a pass has begun that has not ended."""
    begun, ended = (
        len(re.findall(rf"Task outbox\.relay\[\S+\] {how}", node.log())) for how in ("received", "(?:succeeded|raised)")
    )
    return begun > ended
