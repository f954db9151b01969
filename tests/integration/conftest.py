"""Outboxes on real databases; each stands for one process."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from outbox import Outbox
from outbox.errors import OutboxError
from outbox.store import postgresql, sqlite
from outbox.testing import FakeClock
from tests.contract.conftest import (  # noqa: F401 - an empty outbox, made once and emptied for each test
    outbox_url,
    postgres_outbox,
    postgres_outbox_url,
    sqlite_outbox_url,
    sqlite_template,
)

OpenOutbox = Callable[..., Outbox]


class CompiledForAll(dict[Any, Any]):
    """What SQLAlchemy compiled for one engine, for all engines of that database: a test opens a new one, and compiles most."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(self._of(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(self._of(key), compiled)

    def _of(self, key: Any) -> Any:
        dialect, *statement = key
        return dialect.name, *statement


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Let whatever this process compiles be compiled once."""
    compiled = CompiledForAll()

    def shared(engine: Engine) -> Engine:
        engine.update_execution_options(compiled_cache=compiled)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        for module in (sqlite, postgresql):
            made = module.engine_for
            patch.setattr(module, "engine_for", lambda url, made=made: shared(made(url)))
        yield


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
