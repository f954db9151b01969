"""Ordering, over HTTP. Nothing here talks to a broker, a warehouse or the bookkeeping."""

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from examples.flask_shop.extensions import database, outbox
from examples.flask_shop.models import Order

orders = Blueprint("orders", __name__, url_prefix="/orders")


@orders.post("")
def place() -> ResponseReturnValue:
    """Take an order: the row, the packing slip and the entry in the books are committed together, or none of them is."""
    order = Order(customer=request.form["customer"], item=request.form["item"])
    database.session.add(order)
    database.session.flush()
    outbox.enqueue("warehouse", payload={"order": order.number}, ordering_key="packing table 1")
    outbox.enqueue("books", payload={"type": "order.placed", "order": order.number, "customer": order.customer})
    if order.item == "unicorn":
        database.session.rollback()
        return {"sold out": "unicorn"}, 409
    database.session.commit()
    return {"order": order.number}, 201


@orders.get("/<int:number>")
def show(number: int) -> ResponseReturnValue:
    """Tell how far an order is."""
    order = database.get_or_404(Order, number)
    return {"order": order.number, "item": order.item, "packed": order.packed}
