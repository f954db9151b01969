"""What the worker does: Celery beside Flask as Flask's own documentation has it, with the outbox installed."""

from celery import Celery
from flask import Flask

from examples.flask_shop.extensions import database, outbox
from examples.flask_shop.models import Order
from outbox import Attempt, Message
from outbox.integrations.celery import install


def connect_celery(app: Flask) -> None:
    """Give the shop its Celery application: the worker delivers, and a commit wakes the relay."""
    celery = Celery(app.name)
    celery.config_from_object(app.config["CELERY"])
    celery.set_default()
    app.extensions["celery"] = celery
    install(celery, app.extensions["outbox"])


@outbox.channel("warehouse", max_attempts=10)
def pack(message: Message, attempt: Attempt) -> None:
    """Have an order packed. It may be asked twice, should a worker die in between: packing again changes nothing."""
    order = database.session.get_one(Order, message.payload["order"])
    order.packed = True
    database.session.commit()
    print(f"packed order {order.number}", flush=True)
