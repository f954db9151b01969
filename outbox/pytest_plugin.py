"""Fixtures for tests of applications, found by pytest wherever celery-outbox is installed.

Every pytest run imports this module, those of projects that never use it too: so it imports nothing but pytest until a
fixture is asked for.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from outbox import Outbox
    from outbox.testing import FakeClock, Recorder


@pytest.fixture
def outbox_clock() -> "FakeClock":
    """A clock that stands still until it is told to move: ``outbox_clock.advance(minutes=5)``."""
    from outbox.testing import FakeClock

    return FakeClock()


@pytest.fixture
def outbox_engine() -> "Iterator[Engine]":
    """A SQLAlchemy engine on a SQLite database in memory with the outbox's tables; threads and other engines may share it."""
    from sqlalchemy import create_engine

    from outbox.testing import sqlite_in_memory

    with sqlite_in_memory(with_schema=True) as url:
        engine = create_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture
def outbox_recorder() -> "Recorder":
    """The channel ``recorder``: it sends nothing and remembers what it was given, in ``outbox_recorder.recording``."""
    from outbox.testing import Recorder

    return Recorder()


@pytest.fixture
def outbox(outbox_engine: "Engine", outbox_clock: "FakeClock", outbox_recorder: "Recorder") -> "Iterator[Outbox]":
    """An outbox in the database of ``outbox_engine`` that lives by ``outbox_clock`` and knows the channel ``recorder``."""
    from outbox import Outbox

    in_memory = Outbox(engine=outbox_engine, clock=outbox_clock, channels=[outbox_recorder])
    yield in_memory
    in_memory.close()
