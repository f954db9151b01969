"""The controls: on an outbox without fences the same harness must find what is wrong, or it would find nothing at all."""

from dataclasses import dataclass

import pytest

from tests.crash import workloads
from tests.crash.conftest import MakeFleet
from tests.crash.matrix import Cell
from tests.crash.running import Run


@dataclass(frozen=True)
class Control:
    """What goes wrong on a store without fences, and as what the oracle has to see it."""

    store: str
    cell: Cell
    expected: frozenset[str]


CONTROLS = {
    "a copy in the broker": Control(
        "naive",
        Cell("redispatch.committed", workloads.slow, hits=(), title="(nobody dies, the relay publishes again)"),
        frozenset({"unexplained", "repeated", "unfenced"}),
    ),
    "a send that is cut off": Control(
        "naive", Cell("request.sent", hits=(1, 3), may_repeat=True), frozenset({"unexplained", "repeated", "uncounted"})
    ),
    "a message that kills": Control("naive", Cell("send.before", workloads.poison, hits=range(1, 5)), frozenset({"misplaced"})),
    "a success before its send": Control("hasty", Cell("send.before"), frozenset({"lost", "misreported"})),
}


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.crash)])
@pytest.mark.parametrize(
    "has_fences",
    [pytest.param(True, id="with fences", marks=pytest.mark.crash), pytest.param(False, id="without fences")],
)
@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
@pytest.mark.proves("T9", "T12")
@pytest.mark.xdist_group("crash naive")
def test_what_the_harness_finds_in_an_outbox_without_fences(
    make_fleet: MakeFleet, database: str, has_fences: bool, control: Control
) -> None:
    store = "" if has_fences else control.store
    fleet = make_fleet(database, "prefork", without_fences=store, deliveries=2)

    result = Run(fleet, control.cell).carry_out()

    found = {problem.partition(":")[0] for problem in result.problems}
    assert found == set() if has_fences else found >= control.expected, result.problems
    assert (result.lost > 0) is (not has_fences and "lost" in control.expected)
