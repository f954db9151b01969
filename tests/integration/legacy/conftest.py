from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox import Outbox
from tests.integration.legacy.queues import LegacyQueue


@pytest.fixture
def queue(tmp_path: Path) -> LegacyQueue:
    """An empty queue of the old gateway."""
    return LegacyQueue(tmp_path / "delivery-queue")


@pytest.fixture
def outbox(outbox_url: str) -> Iterator[Outbox]:
    """An empty outbox that knows no channels, on SQLite and on PostgreSQL."""
    opened = Outbox(outbox_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_outbox(sqlite_outbox_url: str) -> Iterator[Outbox]:
    """The same on SQLite alone, where nothing depends on the database."""
    opened = Outbox(sqlite_outbox_url)
    yield opened
    opened.close()
