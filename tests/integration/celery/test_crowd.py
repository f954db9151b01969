"""Many of everything at once: relays, beats, workers and applications on one database."""

from itertools import groupby

import pytest

from outbox import NewMessage
from tests.integration.celery.conftest import MakeStack

BULK, LOOP, KEYS, PER_KEY = 6_000, 3_000, 50, 20


@pytest.mark.long_on("postgresql")
def test_two_relays_two_beats_and_four_workers_deliver_ten_thousand_messages_once_each_and_in_order(
    make_stack: MakeStack, database_url: str, redis_url: str
) -> None:
    stack = make_stack(database_url, redis_url, nudging=True)
    for _ in range(2):
        stack.beat()
        stack.worker(pool="threads", concurrency=2, queues=["outbox.relay"])
        stack.worker(pool="threads", concurrency=2, queues=["outbox.bulk", "outbox.loop", "outbox.ordered"])
        stack.worker(pool="prefork", concurrency=1, queues=["outbox.ordered", "outbox.loop", "outbox.bulk"])
    stack.await_ready()

    ids: list[str] = []
    for tenth in range(10):
        ids += stack.enqueue("bulk", BULK // 10)
        ids += stack.enqueue("loop", LOOP // 10)
        with stack.transaction() as transaction:
            in_turn = [
                NewMessage(channel="ordered", ordering_key=f"key {key}", payload={"turn": turn})
                for key in range(KEYS)
                for turn in range(tenth * PER_KEY // 10, (tenth + 1) * PER_KEY // 10)
            ]
            ids += [queued.id for queued in stack.outbox.enqueue_many(transaction, in_turn)]

    stack.await_statuses(delivered=10_000)

    stack.was_sent_once(ids)
    messages = {message.id: message for message in stack.messages(ids)}
    sent = [messages[arrival.id] for arrival in stack.ledger.arrivals() if arrival.channel == "ordered"]
    by_key = groupby(sorted(sent, key=lambda message: str(message.ordering_key)), key=lambda message: message.ordering_key)
    assert {tuple(message.payload["turn"] for message in run) for _key, run in by_key} == {tuple(range(PER_KEY))}
