"""The control: on an outbox without fences the same harness must find what is wrong, or it would find nothing at all."""

import pytest

from tests.crash import workloads
from tests.crash.conftest import MakeFleet
from tests.crash.matrix import Cell
from tests.crash.running import Run

CONTROLS = {
    "a copy in the broker": (
        Cell("redispatch.committed", workloads.slow, hits=(), title="(nobody dies, the relay publishes again)"),
        {"unexplained"},
    ),
    "a send that is cut off": (Cell("request.sent", hits=(1, 3), may_repeat=True), {"unexplained"}),
    "a message that kills": (Cell("send.before", workloads.poison, hits=range(1, 5)), {"misplaced", "misreported"}),
}
"""What goes wrong without fences, and as what the oracle has to see it."""


@pytest.mark.parametrize(
    "is_naive",
    [pytest.param(False, id="with fences", marks=pytest.mark.crash), pytest.param(True, id="without fences")],
)
@pytest.mark.parametrize(("cell", "expected"), CONTROLS.values(), ids=CONTROLS)
@pytest.mark.proves("T9", "T12")
@pytest.mark.xdist_group("crash naive")
def test_what_the_harness_finds_in_an_outbox_without_fences(
    make_fleet: MakeFleet, is_naive: bool, cell: Cell, expected: set[str]
) -> None:
    fleet = make_fleet("sqlite", "prefork", is_naive=is_naive, deliveries=2)

    problems = Run(fleet, cell).carry_out().problems

    if is_naive:
        assert {problem.partition(":")[0] for problem in problems} & expected, problems
    else:
        assert problems == []
