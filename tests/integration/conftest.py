"""Outboxes on real databases; each stands for one process."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from outbox import Outbox
from outbox.errors import OutboxError
from outbox.testing import FakeClock
from tests.contract.conftest import (  # noqa: F401 - an empty outbox, made once and emptied for each test
    outbox_url,
    postgres_outbox,
    postgres_outbox_url,
    sqlite_outbox_url,
    sqlite_template,
)

OpenOutbox = Callable[..., Outbox]


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until it is told to move: for outboxes that are opened with it."""
    return FakeClock()


@pytest.fixture
def open_outbox(outbox_url: str) -> Iterator[OpenOutbox]:  # noqa: F811
    """`Outbox` on the test's database, closed when the test ends."""
    opened: list[Outbox] = []

    def open_and_remember(**options: Any) -> Outbox:
        opened.append(Outbox(outbox_url, **options))
        return opened[-1]

    yield open_and_remember
    for outbox in opened:
        try:
            outbox.close()
        except OutboxError:  # a test that leaves an outcome behind has said so
            continue


@pytest.fixture
def outbox(open_outbox: OpenOutbox) -> Outbox:
    """An outbox that knows no channel yet; `@outbox.channel("name")` adds some."""
    return open_outbox()


@pytest.fixture
def application(outbox_url: str) -> Iterator[Engine]:  # noqa: F811
    """The application's own engine on the same database, with a table of its own."""
    engine = create_engine(outbox_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table orders (id integer)")
    yield engine
    with engine.begin() as connection:
        connection.exec_driver_sql("drop table orders")
    engine.dispose()
