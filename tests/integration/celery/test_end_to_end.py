"""From an application's transaction through relay, broker and worker to the other side, all real."""

from tests.integration.celery.conftest import MakeStack


def test_what_is_committed_is_delivered_once_and_what_is_rolled_back_never(
    make_stack: MakeStack, database_url: str, redis_url: str, pool: str
) -> None:
    stack = make_stack(database_url, redis_url)
    stack.worker(pool=pool)
    stack.beat()
    with stack.outbox.store.engine.connect() as connection:
        stack.outbox.enqueue(connection, "bulk")
        connection.rollback()
    ids = stack.enqueue("bulk", 20) + stack.enqueue("loop", 20)

    stack.await_statuses(delivered=40)

    assert set(stack.ledger.counts()) == set(ids)
    stack.was_sent_once(ids)
