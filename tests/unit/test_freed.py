"""When what has left a channel's allowance is worth a claim."""

import pytest

from outbox.integrations.celery.freed import Freed


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("outbox.integrations.celery.freed.time", clock)
    return clock


def test_many_messages_are(clock: Clock) -> None:
    freed = Freed(100)
    assert [freed.is_enough(40) for _ in range(6)] == [False, False, True] * 2


def test_a_few_are_once_in_a_while(clock: Clock) -> None:
    """Each of many processes frees a few, and no tick may have to tell."""
    freed = Freed(100)
    assert not freed.is_enough(1)
    clock.now += 0.25
    assert freed.is_enough(1)
    assert not freed.is_enough(1)


def test_of_a_small_allowance_each_one_is(clock: Clock) -> None:
    freed = Freed(1)
    assert freed.is_enough(1)
    assert freed.is_enough(1)
