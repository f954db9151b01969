"""The loop of `outbox relay`: what it does when a pass fails, and when it is told to stop."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from outbox.cli.looping import Job, run_until_stopped
from outbox.errors import DatabaseUnavailable


@dataclass
class StopAfter:
    """Stops after so many waits, none of which takes time; remembers how long each would have been."""

    waits: int
    waited_s: list[float] = field(default_factory=list)

    def requested(self) -> bool:
        return len(self.waited_s) > self.waits

    def wait(self, seconds: float) -> bool:
        self.waited_s.append(seconds)
        return self.requested()


def failing(times: int) -> Callable[[], None]:
    left = iter(range(times))

    def run() -> None:
        if next(left, None) is not None:
            raise DatabaseUnavailable("the database cannot be reached")

    return run


def pauses_of(job: Job, waits: int) -> list[float]:
    stop = StopAfter(waits)
    run_until_stopped([job], stop)
    return [round(seconds) for seconds in stop.waited_s[1:]]


def test_a_failing_pass_is_tried_again_with_growing_pauses_that_have_an_end() -> None:
    assert pauses_of(Job("the pass", 1.0, failing(9)), waits=7) == [2, 4, 8, 16, 30, 30, 30]


def test_a_pass_that_succeeds_again_returns_to_its_interval() -> None:
    assert pauses_of(Job("the pass", 1.0, failing(3)), waits=5) == [2, 4, 8, 1, 1]


def test_an_interval_longer_than_the_longest_pause_is_kept_on_failure() -> None:
    assert pauses_of(Job("the pass", 300.0, failing(9)), waits=2) == [300, 300]


def test_a_job_that_fails_does_not_keep_the_others_from_running() -> None:
    done: list[str] = []
    jobs = [Job("broken", 1.0, failing(99)), Job("sound", 1.0, lambda: done.append("sound"))]

    run_until_stopped(jobs, StopAfter(10))

    assert len(done) >= 5


def test_nothing_runs_once_a_stop_is_requested() -> None:
    done: list[str] = []

    run_until_stopped([Job("the pass", 1.0, lambda: done.append("ran"))], StopAfter(-1))

    assert done == []


def test_an_expected_failure_is_one_line_and_a_defect_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def both() -> None:
        raise ExceptionGroup("maintenance", [DatabaseUnavailable("gone"), DatabaseUnavailable("gone"), ZeroDivisionError("oh")])

    with caplog.at_level(logging.ERROR, "outbox.cli"):
        run_until_stopped([Job("the relay pass", 1.0, failing(1))], StopAfter(1))
        run_until_stopped([Job("maintenance", 1.0, both)], StopAfter(1))

    expected, defect = caplog.records
    assert expected.getMessage() == "the relay pass failed, next try in 2 s: the database cannot be reached"
    assert expected.exc_info is None
    assert defect.getMessage() == "maintenance failed, next try in 2 s: gone; oh"
    assert "ZeroDivisionError" in str(defect.exc_text or logging.Formatter().formatException(defect.exc_info))  # type: ignore[arg-type]
