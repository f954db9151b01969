"""Messages in the transaction of a request's ``AsyncSession``, and the lifespan of an application."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from outbox import NewMessage, Outbox
from outbox.errors import SchemaError, TransactionError
from outbox.integrations.fastapi import Enqueuer, running
from tests.servers.supervised import PROJECT


def application(outbox: Outbox, engine: AsyncEngine) -> FastAPI:
    """A shop that writes an order and everything that can be enqueued about it."""
    app = FastAPI(lifespan=lambda app: running(outbox))

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    def get_messages(session: Annotated[AsyncSession, Depends(get_session)]) -> Enqueuer:
        return Enqueuer(outbox, session)

    @app.post("/orders/{number}")
    async def place(
        number: int,
        session: Annotated[AsyncSession, Depends(get_session)],
        messages: Annotated[Enqueuer, Depends(get_messages)],
    ) -> list[str]:
        async with session.begin():
            await session.execute(text("insert into fastapi_order values (:number)"), {"number": number})
            queued = [
                await messages.enqueue("warehouse", payload={"order": number}),
                *await messages.enqueue_many([NewMessage(channel="books"), NewMessage(channel="books")]),
                *await messages.enqueue_reply("chat", target="42", parts=["one", "two"]),
            ]
            task = await messages.send_task("shop.tasks.add", [1, 2])
            if number == 0:
                raise HTTPException(409)
        return [*(each.id for each in queued), *task.message_ids]

    return app


@pytest.fixture
async def client(outbox: Outbox, engine: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(outbox, engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield client


@pytest.mark.proves("R1")
async def test_what_a_request_enqueues_shares_the_fate_of_its_session(
    client: httpx.AsyncClient, outbox: Outbox, engine: AsyncEngine
) -> None:
    assert (await client.post("/orders/0")).status_code == 409
    assert outbox.list() == []
    ids = (await client.post("/orders/1")).json()
    assert sorted(message.id for message in outbox.list()) == sorted(ids)
    assert sorted(message.channel for message in outbox.list()) == ["books", "books", "celery", "chat", "chat", "warehouse"]
    async with engine.connect() as connection:
        assert (await connection.scalars(text("select id from fastapi_order"))).all() == [1]


async def test_a_commit_wakes_the_relay_once_for_each_channel(client: httpx.AsyncClient, outbox: Outbox) -> None:
    woken: list[str] = []
    outbox.on_commit = lambda channel, _committed: woken.append(channel)
    await client.post("/orders/0")
    assert woken == []
    await client.post("/orders/1")
    assert sorted(woken) == ["books", "celery", "chat", "warehouse"]


async def test_a_session_that_is_not_asynchronous_is_refused_at_once(outbox: Outbox) -> None:
    with pytest.raises(TransactionError, match="needs an AsyncSession"):
        Enqueuer(outbox, object())  # type: ignore[arg-type]


async def test_an_application_does_not_start_without_the_tables(tmp_path: Path) -> None:
    outbox = Outbox(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(SchemaError, match="outbox db upgrade"):
        async with running(outbox):
            pass
    outbox.close()


async def test_the_outbox_is_closed_when_the_application_ends(outbox: Outbox, engine: AsyncEngine) -> None:
    app = application(outbox, engine)
    async with app.router.lifespan_context(app):
        pool = outbox.store.engine.pool
        assert outbox.list() == []
    assert outbox.store.engine.pool is not pool


def test_an_application_without_the_dashboard_needs_nothing_of_it() -> None:
    missing = "import sys; sys.modules.update(dict.fromkeys(['a2wsgi', 'celery', 'fastapi', 'jinja2', 'werkzeug']))"
    subprocess.run([sys.executable, "-c", f"{missing}; import outbox.integrations.fastapi"], check=True, cwd=PROJECT)
