"""Threads for plain sends: few for quick ones, one each for slow ones, and nobody waits for long behind a send that hangs."""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from outbox.channels.base import FunctionChannel
from outbox.crew import QUICK_S, Crew, Pace
from outbox.message import Claim
from outbox.outcome import Delivered, Outcome
from outbox.sending import Job
from outbox.trains import couple
from tests import factories

PATIENCE_S = 30.0


class Sends:
    """A channel whose sends do ``behaviour``; what ended, and in which threads they ran."""

    def __init__(self, behaviour: Callable[[], object] = lambda: None) -> None:
        self.ended: SimpleQueue[Outcome | None] = SimpleQueue()
        self.threads: set[int] = set()
        self._behaviour = behaviour
        self._channel = FunctionChannel("chat", lambda _message, _attempt: self._send())

    def _send(self) -> None:
        self.threads.add(threading.get_ident())
        self._behaviour()

    def trains(self, count: int) -> list[list[Job]]:
        """So many jobs, each a train of its own."""
        names = [f"{number}" for number in range(count)]
        messages = [factories.message(id=name, channel="chat") for name in names]
        jobs = [Job(self._channel, message, float("inf"), self._hear) for message in messages]
        return couple([Claim(name, 0) for name in names], jobs)

    def await_ends(self, count: int) -> None:
        for _ in range(count):
            assert self.ended.get(timeout=PATIENCE_S) == Delivered()

    def _hear(self, _job: Job, outcome: Outcome | None) -> None:
        self.ended.put(outcome)


def paced(seconds: float, computing_s: float) -> Pace:
    pace = Pace()
    for _ in range(50):
        pace.note(seconds, computing_s)
    pace.threads_for(1)  # the first run of all looks
    return pace


def test_the_first_run_shows_in_one_thread_how_long_a_send_takes() -> None:
    assert Pace().threads_for(50) == 1


def test_sends_that_begin_in_time_one_after_another_share_a_thread() -> None:
    assert paced(QUICK_S / 100, 0.0).threads_for(50) == 1


def test_sends_that_mostly_compute_share_a_thread_however_long_they_take() -> None:
    assert paced(0.1, 0.08).threads_for(50) == 1


def test_the_longer_sends_wait_the_more_threads_they_get() -> None:
    assert paced(QUICK_S / 10, 0.0).threads_for(50) == 5
    assert paced(QUICK_S * 2, 0.0).threads_for(50) >= 50


def test_no_more_threads_than_can_wait_while_one_computes() -> None:
    assert paced(QUICK_S, QUICK_S / 4).threads_for(50) == 4


def test_a_channel_that_has_become_quick_is_looked_at_again() -> None:
    pace = paced(1.0, 0.0)
    assert 1 in [pace.threads_for(50) for _ in range(16)]


def test_quick_sends_are_sent_by_one_thread() -> None:
    crew, sends = Crew(), Sends()
    crew.begin("chat", sends.trains(20))
    sends.await_ends(20)
    assert len(sends.threads) == 1
    crew.disband()


def test_slow_sends_are_under_way_together_once_they_are_known() -> None:
    all_there = threading.Barrier(5)
    crew, known = Crew(), Sends(lambda: time.sleep(5 * QUICK_S))
    crew.begin("chat", known.trains(1))
    known.await_ends(1)
    together = Sends(lambda: all_there.wait(PATIENCE_S))  # each waits for all others: in fewer threads they would not return
    assert crew.begin("chat", together.trains(5)).threads == 5
    together.await_ends(5)
    crew.disband()


def test_a_run_that_has_stalled_gets_as_many_threads_again_until_none_waits() -> None:
    let_go = threading.Event()
    crew, sends = Crew(), Sends(lambda: let_go.wait(PATIENCE_S))
    run = crew.begin("chat", sends.trains(6))
    until = time.monotonic() + PATIENCE_S
    threads = [run.threads]
    while run:
        assert time.monotonic() < until
        if run.has_stalled():
            crew.help(run)
            threads.append(run.threads)
    let_go.set()
    sends.await_ends(6)
    assert threads == [1, 2, 4, 6]
    crew.disband()


def test_a_run_whose_trains_have_all_begun_has_not_stalled() -> None:
    crew, sends = Crew(), Sends()
    run = crew.begin("chat", sends.trains(1))
    sends.await_ends(1)
    time.sleep(2 * QUICK_S)  # a lapse of time is what would make it stall
    assert not run.has_stalled()
    crew.disband()
