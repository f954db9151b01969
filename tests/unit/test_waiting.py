"""For whom a slow delivery task makes way: whoever waits for a slot, but not a few requests of its own kind."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from celery import signals
from celery.concurrency import solo
from celery.worker import state

from outbox.integrations.celery.waiting import Waiting

SLOW, OTHER, THIRD = "outbox.deliver.slow", "outbox.deliver.other", "shop.tasks.pack"
WORKER = SimpleNamespace(concurrency=3, pool=None)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> dict[str, SimpleNamespace]:
    requests: dict[str, SimpleNamespace] = {}
    monkeypatch.setattr(state, "requests", requests)
    return requests


def come(requests: dict[str, SimpleNamespace], *tasks: str) -> None:
    for task in tasks:
        request = SimpleNamespace(id=str(len(requests)), name=task, time_start=None)
        requests[request.id] = request


def seen(looks: int = 2, worker: SimpleNamespace = WORKER) -> Waiting:
    waiting = Waiting()
    for _ in range(looks):
        waiting.look(worker)
    return waiting


def test_where_nobody_waits_nobody_makes_way(requests: dict[str, SimpleNamespace]) -> None:
    assert not seen().anybody_but(SLOW)


@pytest.mark.parametrize("task", [OTHER, THIRD])
def test_a_request_counts_from_the_second_look(requests: dict[str, SimpleNamespace], task: str) -> None:
    come(requests, task)

    assert not seen(looks=1).anybody_but(SLOW)
    assert seen(looks=2).anybody_but(SLOW)


def test_one_that_has_its_slot_waits_no_longer(requests: dict[str, SimpleNamespace]) -> None:
    come(requests, OTHER)
    waiting = seen()
    requests["0"].time_start = 1.0
    waiting.look(WORKER)

    assert not waiting.anybody_but(SLOW)


@pytest.mark.parametrize(("count", "makes_way"), [(1, False), (2, False), (3, True)])
def test_its_own_kind_counts_where_as_many_wait_as_there_are_slots(
    requests: dict[str, SimpleNamespace], count: int, makes_way: bool
) -> None:
    """So many may fill what the worker fetches ahead, and then nobody else comes in."""
    come(requests, *[SLOW] * count)

    assert seen().anybody_but(SLOW) is makes_way


def test_one_with_a_countdown_waits_for_its_time_and_not_for_a_slot(
    requests: dict[str, SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    come(requests, OTHER)
    monkeypatch.setattr(state, "scheduled_requests", [requests["0"]])

    assert not seen().anybody_but(SLOW)


def test_among_its_own_kind_another_one_counts(requests: dict[str, SimpleNamespace]) -> None:
    come(requests, SLOW, OTHER)

    assert seen().anybody_but(SLOW)
    assert seen().anybody_but(OTHER)


def test_a_solo_pool_sees_nobody_come_and_so_takes_it_that_somebody_has() -> None:
    worker = SimpleNamespace(concurrency=1, pool=object.__new__(solo.TaskPool))

    assert seen(looks=1, worker=worker).anybody_but(SLOW)


class Timer:
    """Keeps what is to be called later until the test says when."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_after(self, _seconds: float, call: Callable[[], None]) -> None:
        self.due.append(call)

    def pass_on(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()


def test_a_worker_looks_while_it_has_requests_and_no_longer(requests: dict[str, SimpleNamespace]) -> None:
    timer, waiting = Timer(), Waiting()
    waiting.begin(SimpleNamespace(**vars(WORKER), timer=timer))
    assert not timer.due

    for _ in range(2):
        signals.task_received.send(sender=None)
    come(requests, OTHER)
    assert len(timer.due) == 1, "it looks for each request"
    timer.pass_on()
    timer.pass_on()
    assert waiting.anybody_but(SLOW)

    requests.clear()
    timer.pass_on()
    assert not waiting.anybody_but(SLOW)
    assert not timer.due, "it goes on looking when nobody is there"


def test_a_worker_that_ends_looks_no_more(requests: dict[str, SimpleNamespace]) -> None:
    timer, waiting = Timer(), Waiting()
    come(requests, OTHER)
    waiting.begin(SimpleNamespace(**vars(WORKER), timer=timer))
    waiting.end()
    timer.pass_on()
    signals.task_received.send(sender=None)

    assert not timer.due
