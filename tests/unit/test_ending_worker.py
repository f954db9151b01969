"""What a worker's end asks of its outbox, and when."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from celery import Celery, signals

from outbox import Outbox
from outbox.integrations.celery.lifetime import Lifetime


@pytest.fixture
def app() -> Celery:
    return Celery(set_as_current=False)


@pytest.fixture
def finished(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    outbox, finished = Outbox("sqlite://", channels=[]), []
    monkeypatch.setattr(outbox.delivery, "finish", lambda: finished.append("finished"))
    lifetime = Lifetime(app, outbox)
    yield finished
    signals.worker_process_shutdown.disconnect(lifetime._finish)


@pytest.mark.parametrize(("exitcode", "times"), [(None, 1), (0, 1), (155, 1), (-15, 0)])
def test_a_pool_process_finishes_unless_it_is_terminated(finished: list[str], exitcode: int | None, times: int) -> None:
    signals.worker_process_shutdown.send(sender=None, pid=1, exitcode=exitcode)

    assert len(finished) == times


@pytest.mark.parametrize("how", ["stop", "terminate"])
def test_a_worker_finishes_when_its_pool_has_stopped(app: Celery, finished: list[str], how: str) -> None:
    (step_class,) = app.steps["worker"]
    worker = SimpleNamespace(
        steps=["the pool"], pool_cls=object, concurrency=1, max_tasks_per_child=None, max_memory_per_child=None
    )
    step = step_class(worker)

    assert step.include(worker)
    assert worker.steps == [step, "the pool"]  # they stop in the opposite order
    getattr(step, how)(worker)

    assert finished == ["finished"]
