"""What the tasks of one process need not learn each by itself, and for how long."""

import pytest

from outbox.gatekeeping import RecentHealth
from outbox.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def health(clock: FakeClock) -> RecentHealth:
    return RecentHealth(clock)


@pytest.mark.parametrize(("open_s", "for_s"), [(30.0, 1.0), (0.2, 0.2)])
def test_a_breaker_that_opened_is_remembered_for_a_second_and_no_longer_than_it_is_open(
    health: RecentHealth, clock: FakeClock, open_s: float, for_s: float
) -> None:
    health.open_breakers(["them"], open_s)
    clock.advance(seconds=for_s - 0.01)
    assert health.closed() == {"them"}
    clock.advance(seconds=0.02)
    assert health.closed() == set()


def test_what_has_passed_is_forgotten(health: RecentHealth, clock: FakeClock) -> None:
    """A worker lives for weeks and sends to any number of targets."""
    for number in range(1_000):
        health.is_clean([f"well {number}"])
        health.open_breakers([f"down {number}"], 30.0)
        clock.advance(100)
    assert len(health._well_until) < 10
    assert len(health._closed_until) < 20


def test_a_success_that_closed_it_is_remembered_too(health: RecentHealth) -> None:
    health.open_breakers(["them", "others"], 30.0)
    health.close_breakers(["them"])
    assert health.closed() == {"others"}


def test_that_no_failures_are_on_record_holds_for_a_quarter_of_a_second_or_until_the_next(
    health: RecentHealth, clock: FakeClock
) -> None:
    assert not health.is_well("us")
    health.is_clean(["us", "them"])
    assert health.is_well("us")
    health.has_failed("us")
    assert not health.is_well("us")
    clock.advance(260)
    assert not health.is_well("them")
