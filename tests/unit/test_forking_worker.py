"""What a worker's main process does before its pool is forked from it."""

import gc
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.concurrency import prefork, thread

from outbox import Outbox
from outbox.integrations.celery.lifetime import Lifetime


@pytest.fixture
def lifetime() -> Iterator[Lifetime]:
    yield Lifetime(Celery(set_as_current=False), Outbox("sqlite://", channels=[]))
    gc.unfreeze()


@pytest.mark.parametrize(("pool", "freezes"), [(prefork.TaskPool, True), (thread.TaskPool, False)])
def test_what_is_loaded_before_the_fork_is_out_of_the_collectors_sight(lifetime: Lifetime, pool: type, freezes: bool) -> None:
    """Each process would have memory of its own for all of it from the first full collection on."""
    worker = SimpleNamespace(pool_cls=pool, concurrency=2, max_tasks_per_child=None, max_memory_per_child=None)
    lifetime.begin(worker, scales=False)

    assert (gc.get_freeze_count() > 0) is freezes
