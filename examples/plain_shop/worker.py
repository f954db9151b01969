"""What the worker does, and the Celery application with the outbox installed."""

import os

from celery import Celery

from examples.plain_shop.database import outbox, transaction
from outbox import Attempt, Message
from outbox.channels.console import Console
from outbox.channels.webhook import Webhook
from outbox.integrations.celery import install

app = Celery("shop", broker=os.environ.get("SHOP_BROKER_URL", "redis://localhost:6379/0"))
install(app, outbox)

if url := os.environ.get("SHOP_BOOKS_URL"):
    secret = os.environ["SHOP_BOOKS_SECRET"]
    outbox.register(Webhook("books", url=url, secret=secret, allow_hosts=["127.0.0.1"], allow_http=True))
else:
    outbox.register(Console("books"))


@outbox.channel("warehouse", max_attempts=10)
def pack(message: Message, attempt: Attempt) -> None:
    """Have an order packed. It may be asked twice, should a worker die in between: packing again changes nothing."""
    with transaction() as connection:
        connection.execute("update orders set packed = 1 where number = ?", (message.payload["order"],))
    print(f"packed order {message.payload['order']}", flush=True)
