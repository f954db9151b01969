"""The shop's database, its own data, and the outbox in it."""

import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from outbox import Outbox
from outbox.integrations.fastapi import Enqueuer

URL = make_url(os.environ.get("SHOP_DATABASE_URL", "sqlite:///shop.db"))

engine = create_async_engine(URL.set(drivername="sqlite+aiosqlite"), connect_args={"timeout": 30})
Sessions = async_sessionmaker(engine, expire_on_commit=False)
outbox = Outbox(URL)


class Base(DeclarativeBase):
    """The shop's own tables."""


class Order(Base):
    """Somebody ordered something; the warehouse packs it."""

    __tablename__ = "orders"

    number: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]
    packed: Mapped[bool] = mapped_column(default=False)


async def get_session() -> AsyncIterator[AsyncSession]:
    """A session for a request, which commits by itself: what a dependency did after its ``yield`` the answer could not tell."""
    async with Sessions() as session:
        yield session


RequestSession = Annotated[AsyncSession, Depends(get_session)]


def get_messages(session: RequestSession) -> Enqueuer:
    """What writes messages in the transaction of the request's session."""
    return Enqueuer(outbox, session)


Messages = Annotated[Enqueuer, Depends(get_messages)]
