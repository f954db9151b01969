"""The project's channels, found by their module's name."""

from outbox import Attempt, Message, PermanentFailure
from outbox.integrations.django import channel
from tests.integration.django.shop.models import Order


@channel("warehouse")
def pack(message: Message, attempt: Attempt) -> None:
    """Accepts everything."""


@channel("ledger")
def write_down(message: Message, attempt: Attempt) -> None:
    Order.objects.create(number=message.payload["order"])


@channel("broken")
def refuse(message: Message, attempt: Attempt) -> None:
    raise PermanentFailure("no such address")
