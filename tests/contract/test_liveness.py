"""Invariant 6: a committed message is in one status, and something will look at it again, whatever happened before."""

import pytest

from outbox.store.sqlstore import SQLStore
from outbox.testing import FakeClock
from tests.contract.walking import Walk

STEPS = 100


@pytest.mark.parametrize("seed", range(3))
def test_invariant_6_whatever_happens_in_whatever_order_every_message_comes_to_an_end(
    store: SQLStore, clock: FakeClock, seed: int
) -> None:
    walk = Walk(store, clock, seed)
    for _ in range(STEPS):
        walk.step()
    walk.drain()
