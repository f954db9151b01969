"""Ordering, over HTTP. Nothing here talks to a warehouse or the bookkeeping."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from examples.fastapi_shop.database import Base, Messages, Order, RequestSession, engine, outbox
from examples.fastapi_shop.worker import app as celery
from outbox.integrations.fastapi import running

__all__ = ["app", "celery"]  # with Celery's application here, a commit wakes the relay at once


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Serve only where the tables are; afterwards give back what was opened."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with running(outbox):
        yield
    await engine.dispose()


app = FastAPI(title="Shop", lifespan=lifespan)


class Wish(BaseModel):
    """What somebody orders."""

    customer: str
    item: str


@app.post("/orders", status_code=201)
async def place(wish: Wish, session: RequestSession, messages: Messages) -> dict[str, int]:
    """Take an order: the row, the packing slip and the entry in the books are committed together, or none of them is."""
    async with session.begin():
        order = Order(customer=wish.customer, item=wish.item)
        session.add(order)
        await session.flush()
        await messages.enqueue("warehouse", payload={"order": order.number}, ordering_key="packing table 1")
        await messages.enqueue("books", payload={"type": "order.placed", "order": order.number, "customer": order.customer})
        if wish.item == "unicorn":
            raise HTTPException(409, "sold out")
    return {"order": order.number}


@app.get("/orders/{number}")
async def show(number: int, session: RequestSession) -> dict[str, int | str | bool]:
    """Tell how far an order is."""
    order = await session.get(Order, number)
    if order is None:
        raise HTTPException(404)
    return {"order": order.number, "item": order.item, "packed": order.packed}
