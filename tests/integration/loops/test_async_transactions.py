"""`aenqueue` joins the transactions of SQLAlchemy's asyncio extension."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)

from outbox import Outbox
from outbox.errors import InvalidMessage, TransactionError


@pytest_asyncio.fixture
async def engine(outbox_url: str, outbox: Outbox) -> AsyncIterator[AsyncEngine]:
    """The application's own engine, asynchronous, on the outbox's database."""
    url = make_url(outbox_url)
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}[url.get_backend_name()]
    engine = create_async_engine(url.set(drivername=driver))
    yield engine
    await engine.dispose()


def kept(outbox: Outbox) -> int:
    return len(outbox.list())


async def test_invariant_1_an_async_session_commits_the_message_with_its_data(outbox: Outbox, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        queued = await outbox.aenqueue(session, "chat", payload={"text": "hi"}, target="room")
        assert kept(outbox) == 0
    assert queued.created
    assert outbox.get(queued.id).payload == {"text": "hi"}


async def test_invariant_1_an_async_session_that_rolls_back_leaves_nothing(outbox: Outbox, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await outbox.aenqueue(session, "chat")
        await session.rollback()
    assert kept(outbox) == 0


async def test_an_async_connection_is_joined(outbox: Outbox, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await outbox.aenqueue(connection, "chat")
    async with engine.connect() as connection:
        await outbox.aenqueue(connection, "chat")
        await connection.rollback()
    assert kept(outbox) == 1


async def test_an_async_scoped_session_is_joined(outbox: Outbox, engine: AsyncEngine) -> None:
    session = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    await outbox.aenqueue(session, "chat")
    await session.commit()
    await session.remove()
    assert kept(outbox) == 1


async def test_a_savepoint_takes_its_message_along(outbox: Outbox, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        await outbox.aenqueue(session, "chat", target="kept")
        savepoint = await session.begin_nested()
        await outbox.aenqueue(session, "chat", target="gone")
        await savepoint.rollback()
    assert [message.target for message in outbox.list()] == ["kept"]


async def test_the_nudge_comes_once_after_the_real_commit(outbox: Outbox, engine: AsyncEngine) -> None:
    seen: list[int] = []
    outbox.on_commit = lambda _channel, _committed: seen.append(kept(outbox))
    async with AsyncSession(engine) as session:
        await outbox.aenqueue(session, "chat")
        await session.rollback()
        await outbox.aenqueue(session, "chat")
        await outbox.aenqueue(session, "chat")
        assert seen == []
        await session.commit()
        await session.execute(text("select 1"))
        await session.commit()
    assert seen == [2]


async def test_a_refused_message_leaves_the_transaction_usable(outbox: Outbox, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        with pytest.raises(InvalidMessage, match="priority"):
            await outbox.aenqueue(session, "chat", priority=1000)
        await outbox.aenqueue(session, "chat")
    assert kept(outbox) == 1


async def autocommit_by_option(engine: AsyncEngine) -> AsyncConnection:
    connection = await engine.connect()
    return await connection.execution_options(isolation_level="AUTOCOMMIT")


async def autocommit_by_engine(engine: AsyncEngine) -> AsyncConnection:
    return await create_async_engine(engine.url, isolation_level="AUTOCOMMIT").connect()


@pytest.mark.proves("R21")
@pytest.mark.parametrize("connect", [autocommit_by_option, autocommit_by_engine], ids=["option", "engine"])
async def test_r21_autocommit_is_refused(outbox: Outbox, engine: AsyncEngine, connect: Callable[..., Any]) -> None:
    connection = await connect(engine)
    with pytest.raises(TransactionError, match="autocommit mode"):
        await outbox.aenqueue(connection, "chat")
    await connection.close()
    await connection.engine.dispose()
    assert kept(outbox) == 0


async def test_a_synchronous_enqueue_says_what_to_await(outbox: Outbox, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(TransactionError, match=r"an AsyncSession needs `await outbox\.aenqueue\(\.\.\.\)`"):
            outbox.enqueue(session, "chat")
    async with engine.connect() as connection:
        with pytest.raises(TransactionError, match="an AsyncConnection needs `await"):
            outbox.enqueue(connection, "chat")


async def test_what_is_not_asynchronous_is_refused(outbox: Outbox) -> None:
    needs = "aenqueue needs an AsyncSession or AsyncConnection of SQLAlchemy, not Connection"
    with outbox.store.engine.connect() as connection, pytest.raises(TransactionError, match=needs):
        await outbox.aenqueue(connection, "chat")  # type: ignore[arg-type]
    with pytest.raises(TransactionError, match="not NoneType"):
        await outbox.aenqueue(None, "chat")  # type: ignore[arg-type]
