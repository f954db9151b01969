"""A thousand replies over twenty chats through real brokers and workers; one in ten fails in passing, and one chat is down."""

import random
from collections import defaultdict

import pytest

from outbox import NewMessage
from tests.integration.celery.conftest import MakeStack
from tests.integration.celery.nodes import eventually

CHATS = [f"chat {number}" for number in range(20)]
REPLIES = range(50)
DOWN = "chat 7"
EVERY_REPLY = [(chat, reply) for reply in REPLIES for chat in CHATS]
STUMBLING = frozenset(random.Random(29953).sample(EVERY_REPLY, len(EVERY_REPLY) // 10))


def script(chat: str, reply: int) -> dict[str, object]:
    """What happens to the reply, in the payload's words."""
    if chat == DOWN:
        return {"reply": reply, "raises": "retry", "on": [*range(1, 100)]}
    return {"reply": reply, "raises": "retry"} if (chat, reply) in STUMBLING else {"reply": reply}


@pytest.mark.long_on("postgresql")
@pytest.mark.proves("T40", "R17")
def test_every_chat_but_the_one_that_is_down_hears_its_replies_once_and_in_order(
    make_stack: MakeStack, database_url: str, redis_url: str
) -> None:
    stack = make_stack(database_url, redis_url, nudging=True)
    stack.beat()
    stack.worker(pool="threads", concurrency=2)
    stack.worker(pool="prefork", concurrency=2, queues=["outbox.ordered"])
    stack.await_ready()
    replies = [NewMessage(channel="ordered", target=chat, payload=script(chat, reply)) for chat, reply in EVERY_REPLY]
    with stack.transaction() as transaction:
        ids = [queued.id for queued in stack.outbox.enqueue_many(transaction, replies)]

    heard_by_all = len(EVERY_REPLY) - len(REPLIES)
    eventually(lambda: stack.statuses()["delivered"] >= heard_by_all, lambda: f"{heard_by_all}, not {dict(stack.statuses())}")

    delivered = {message.id: message for message in stack.messages(ids) if message.status == "delivered"}
    heard: defaultdict[str, list[int]] = defaultdict(list)
    for arrival in stack.ledger.arrivals():
        message = delivered.get(arrival.id)
        if message is not None and arrival.attempt == message.attempt_count:
            heard[message.target].append(message.payload["reply"])
    assert heard == {chat: [*REPLIES] for chat in CHATS if chat != DOWN}
    tries = {(message.target, message.payload["reply"]): message.attempt_count for message in delivered.values()}
    assert {reply for reply, count in tries.items() if count > 1} == {reply for reply in STUMBLING if reply[0] != DOWN}
    assert max(tries.values()) == 2
    assert stack.losses() == []
    assert stack.outbox.store.violations(10) == []
