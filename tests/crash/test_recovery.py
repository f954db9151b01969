"""How long it takes until what a dead process held goes on: measured and reported, never asserted."""

import os
import signal
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.crash.application import HORIZON_MS, MARGIN_S, TICK_S, TIMEOUT_S
from tests.crash.conftest import RECOVERY, MakeFleet
from tests.crash.fleet import Fleet
from tests.crash.hand import enqueue
from tests.crash.workloads import Order

ROUNDS = 5
LEASE_S = TIMEOUT_S + MARGIN_S

pytestmark = [pytest.mark.crash, pytest.mark.slow]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_a_dead_process_held_goes_on(
    make_fleet: MakeFleet, record_property: Any, database: str, pool: str, request: pytest.FixtureRequest
) -> None:
    fleet = make_fleet(database, pool)
    spare = fleet.another_relay(pool)
    deaths: dict[str, tuple[Callable[[Fleet], float], str]] = {
        "a node, in a send": (_node_in_a_send, f"lease of {LEASE_S:g} s and 2 s"),
        "a node, before the take": (_node_before_the_take, f"horizon of {HORIZON_MS / 1000:g} s, a restart and a tick"),
        "one of two relays": (lambda fleet: _idle(fleet, fleet.relay.kill), f"2 ticks of {TICK_S:g} s"),
        "beat": (lambda fleet: _idle(fleet, fleet.beat.kill), f"a restart and 2 ticks of {TICK_S:g} s"),
    }
    if pool == "prefork":
        deaths["a pool process, in a send"] = (_pool_process_in_a_send, "2 s")
    for what, (die, bound) in deaths.items():
        seconds = [die(fleet) for _ in range(ROUNDS)]
        result = {"median_s": round(statistics.median(seconds), 2), "longest_s": round(max(seconds), 2)}
        record_property(RECOVERY, {"database": database, "pool": pool, "dies": what, "wanted": bound, **result})
    fleet.dismiss(spare)
    seconds = [_idle(fleet, fleet.relay.kill) for _ in range(ROUNDS)]
    result = {"median_s": round(statistics.median(seconds), 2), "longest_s": round(max(seconds), 2)}
    alone = {"dies": "the only relay", "wanted": f"a restart and 2 ticks of {TICK_S:g} s"}
    record_property(RECOVERY, {"database": database, "pool": pool, **alone, **result})
    assert fleet.outbox.store.violations(10) == []


def _pool_process_in_a_send(fleet: Fleet) -> float:
    """From the death of the process until its message arrives again."""
    key = _commit(fleet, delay=1.0)
    _await_arrivals(fleet, key, 1)
    [child] = fleet.delivery.children()
    os.kill(child, signal.SIGKILL)
    return _until_arrival(fleet, key, 2, time.time())


def _node_in_a_send(fleet: Fleet) -> float:
    key = _commit(fleet, delay=1.0)
    _await_arrivals(fleet, key, 1)
    died_at = time.time()
    fleet.delivery.kill()
    return _until_arrival(fleet, key, 2, died_at)


def _node_before_the_take(fleet: Fleet) -> float:
    """The message waits behind a slow one in a task of the node."""
    first, second = _commit(fleet, delay=1.0), _commit(fleet)
    _await_arrivals(fleet, first, 1)
    died_at = time.time()
    fleet.delivery.kill()
    return _until_arrival(fleet, second, 1, died_at)


def _idle(fleet: Fleet, kill: Callable[[], None]) -> float:
    """From a commit just after the death until the arrival: nobody nudges."""
    kill()
    return _until_arrival(fleet, _commit(fleet), 1, time.time())


def _commit(fleet: Fleet, **script: Any) -> str:
    """One message; its key on the wire."""
    [message_id] = enqueue(fleet.outbox, [Order("plain", script=script).named(f"measured-{time.time_ns()}", keyed=False)])
    return message_id


def _until_arrival(fleet: Fleet, key: str, count: int, since: float) -> float:
    arrivals = _await_arrivals(fleet, key, count)
    fleet.tend()
    for node in (fleet.relay, fleet.delivery):
        node.await_ready()
    # Whoever is measured next must not wait behind what this death left over, such as a second send of a slow message.
    fleet.until(lambda: not fleet.under_way(), lambda: f"the end of {fleet.under_way()}\n{fleet.logs()}")
    return arrivals[count - 1] - since


def _await_arrivals(fleet: Fleet, key: str, count: int) -> list[float]:
    def moments() -> list[float]:
        return [arrival.at for arrival in fleet.ledger.arrivals() if arrival.key == key]

    fleet.until(lambda: len(moments()) >= count, lambda: f"arrival {count} of {key}\n{fleet.logs()}")
    return moments()
