"""Ordering, over HTTP. Nothing here talks to a broker, a warehouse or a mail server."""

from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from examples.django_shop.orders.models import Order
from outbox.integrations.django import enqueue


@csrf_exempt
@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """Take an order: the row, the packing slip and the mail are committed together, or none of them is."""
    customer, item = request.POST["customer"], request.POST["item"]
    with transaction.atomic():
        order = Order.objects.create(customer=customer, item=item)
        enqueue("warehouse", payload={"order": order.pk, "item": item}, ordering_key="packing table 1")
        send_mail(f"Your order {order.pk}", f"We are packing your {item}.", "shop@example.org", [customer])
        if item == "unicorn":
            return refuse(order)
    return JsonResponse({"order": order.pk}, status=201)


def refuse(order: Order) -> JsonResponse:
    """Change our mind at the last moment: whatever was written in the block is forgotten."""
    transaction.set_rollback(True)
    return JsonResponse({"sold out": order.item}, status=409)


def show(request: HttpRequest, number: int) -> JsonResponse:
    """Tell how far an order is."""
    order = get_object_or_404(Order, pk=number)
    return JsonResponse({"order": order.pk, "item": order.item, "packed": order.packed})
