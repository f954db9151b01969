"""What goes through the broker: few messages, small ones, and nothing in them that the queue's readers should not see."""

from pathlib import Path

from celery import Celery

from outbox import NewMessage, Outbox
from outbox.channels.base import FunctionChannel
from outbox.integrations.celery import install
from tests.integration.loops.scene import enqueue

BYTES_A_CLAIM = 48
"""An id, a lease, and what JSON puts around them."""
BYTES_AROUND = 250
"""What Celery's protocol and our envelope say once a message."""


def test_a_thousand_rows_cost_ten_messages_of_fewer_than_fifty_bytes_a_row_and_say_nothing_of_them(tmp_path: Path) -> None:
    outbox = Outbox(f"sqlite:///{tmp_path}/app.db")
    outbox.upgrade_schema()
    outbox.register(FunctionChannel("note", lambda _message, _attempt: None, batch_size=100))
    app = Celery("shop", broker="memory://", set_as_current=False)
    installation = install(app, outbox, schedule=False)
    outbox.on_commit = None  # its wake-up would be one more
    enqueue(outbox, *(NewMessage(channel="note", target="secret-target", payload="secret-payload") for _ in range(1000)))

    installation.relay.run_once(budget_s=60.0)

    with app.connection_for_read() as connection:
        waiting = app.amqp.queues["outbox.note"].bind(connection.channel())
        messages = [message for message in (waiting.get(no_ack=True) for _ in range(11)) if message is not None]
    assert len(messages) == 10
    for message in messages:
        assert len(message.body) <= 100 * BYTES_A_CLAIM + BYTES_AROUND
        assert "secret" not in str(message.body) + str(message.headers) + str(message.properties)
    outbox.close()
