"""How the shop's messages go out. Django finds this module by its name."""

from examples.django_shop.orders.models import Order
from outbox import Attempt, Message
from outbox.integrations.django import channel


@channel("warehouse", max_attempts=10)
def pack(message: Message, attempt: Attempt) -> None:
    """Have an order packed. It may be asked twice, should a worker die in between: packing again changes nothing."""
    Order.objects.filter(pk=message.payload["order"]).update(packed=True)
    print(f"packed order {message.payload['order']}", flush=True)
