"""Ordering, over HTTP. Nothing here talks to a broker, a warehouse or the bookkeeping."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from examples.plain_shop.database import outbox, transaction

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class SoldOut(Exception):
    """There is none left. Who raises it in a transaction forgets what was written there."""


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer one request, for any WSGI server."""
    status, answer = _answer(environ)
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode() + b"\n"]


def _answer(environ: "WSGIEnvironment") -> tuple[str, dict[str, Any]]:
    match environ["REQUEST_METHOD"], environ["PATH_INFO"].strip("/").split("/"):
        case "POST", ["orders"]:
            form = parse_qs(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode())
            try:
                return "201 Created", {"order": place(form["customer"][0], form["item"][0])}
            except SoldOut as error:
                return "409 Conflict", {"sold out": str(error)}
        case "GET", ["orders", number] if number.isdecimal() and (order := find(int(number))):
            return "200 OK", order
        case _:
            return "404 Not Found", {}


def place(customer: str, item: str) -> int:
    """Take an order: the row, the packing slip and the entry in the books are committed together, or none of them is."""
    with transaction() as connection:
        number = connection.execute("insert into orders (customer, item) values (?, ?)", (customer, item)).lastrowid
        outbox.enqueue(connection, "warehouse", payload={"order": number}, ordering_key="packing table 1")
        outbox.enqueue(connection, "books", payload={"type": "order.placed", "order": number, "customer": customer})
        if item == "unicorn":
            raise SoldOut(item)
    return number or 0


def find(number: int) -> dict[str, Any] | None:
    """How far an order is."""
    with transaction() as connection:
        row = connection.execute("select item, packed from orders where number = ?", (number,)).fetchone()
    return {"order": number, "item": row[0], "packed": bool(row[1])} if row else None
