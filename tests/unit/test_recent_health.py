"""What the tasks of one process need not learn each by itself, and for how long."""

import pytest

from outbox.gatekeeping import RecentHealth


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("outbox.gatekeeping.time", clock)
    return clock


@pytest.mark.parametrize(("open_s", "for_s"), [(30.0, 1.0), (0.2, 0.2)])
def test_a_breaker_that_opened_is_remembered_for_a_second_and_no_longer_than_it_is_open(
    clock: Clock, open_s: float, for_s: float
) -> None:
    health = RecentHealth()
    health.open_breakers(["them"], open_s)
    clock.now += for_s - 0.01
    assert health.closed() == {"them"}
    clock.now += 0.02
    assert health.closed() == set()


def test_a_success_that_closed_it_is_remembered_too(clock: Clock) -> None:
    health = RecentHealth()
    health.open_breakers(["them", "others"], 30.0)
    health.close_breakers(["them"])
    assert health.closed() == {"others"}


def test_that_no_failures_are_on_record_holds_for_a_quarter_of_a_second_or_until_the_next(clock: Clock) -> None:
    health = RecentHealth()
    assert not health.is_well("us")
    health.is_clean(["us", "them"])
    assert health.is_well("us")
    health.has_failed("us")
    assert not health.is_well("us")
    clock.now += 0.26
    assert not health.is_well("them")
