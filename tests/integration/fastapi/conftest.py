"""An asynchronous application's own engine on the test's database: SQLite by aiosqlite, then PostgreSQL by psycopg."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.contract.conftest import outbox_url  # noqa: F401


@pytest.fixture
async def engine(outbox_url: str) -> AsyncIterator[AsyncEngine]:  # noqa: F811
    url = make_url(outbox_url)
    sqlite = url.get_backend_name() == "sqlite"
    engine = create_async_engine(url.set(drivername="sqlite+aiosqlite" if sqlite else "postgresql+psycopg"))
    async with engine.begin() as connection:
        await connection.execute(text("create table fastapi_order (id integer)"))
    yield engine
    async with engine.begin() as connection:
        await connection.execute(text("drop table fastapi_order"))
    await engine.dispose()
