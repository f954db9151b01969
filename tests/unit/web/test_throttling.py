"""Throttled log-ins: who guesses waits, longer after each wrong guess, and nobody for ever."""

import pytest

from outbox.web.throttling import FORGOTTEN_AFTER_S, FREE_GUESSES, LONGEST_WAIT_S, Throttle


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock)


def test_the_first_guesses_are_free(throttle: Throttle) -> None:
    for _ in range(FREE_GUESSES):
        assert throttle.wait_s(["ada"]) == 0
        throttle.failed(["ada"])
    assert throttle.wait_s(["ada"]) == 1


def test_each_further_guess_doubles_the_wait_up_to_the_longest(throttle: Throttle, clock: Clock) -> None:
    waits = []
    for _ in range(FREE_GUESSES + 10):
        throttle.failed(["ada"])
        waits.append(throttle.wait_s(["ada"]))
    assert waits[FREE_GUESSES - 1 : FREE_GUESSES + 3] == [1, 2, 4, 8]
    assert waits[-1] == LONGEST_WAIT_S
    clock.now += LONGEST_WAIT_S
    assert throttle.wait_s(["ada"]) == 0


def test_of_several_keys_the_one_that_waits_longest_counts(throttle: Throttle) -> None:
    for _ in range(FREE_GUESSES):
        throttle.failed(["name ada", "address 1"])
    assert throttle.wait_s(["name ada", "address 2"]) == 1
    assert throttle.wait_s(["name grace", "address 1"]) == 1
    assert throttle.wait_s(["name grace", "address 2"]) == 0


def test_the_right_password_begins_anew_and_so_does_time(throttle: Throttle, clock: Clock) -> None:
    for _ in range(FREE_GUESSES + 5):
        throttle.failed(["ada", "grace"])
    throttle.succeeded(["ada"])
    assert throttle.wait_s(["ada"]) == 0
    clock.now += FORGOTTEN_AFTER_S
    throttle.failed(["grace"])
    assert throttle.wait_s(["grace"]) == 0


def test_guesses_under_ever_new_names_do_not_fill_the_memory(throttle: Throttle) -> None:
    for number in range(10_500):
        throttle.failed([f"name {number}"])
    assert len(throttle._failures) == 10_000
