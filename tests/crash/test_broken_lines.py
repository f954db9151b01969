"""The network between nodes, broker and database fails: it cuts, delays, refuses and falls silent while real nodes work."""

from collections.abc import Callable
from itertools import product

import pytest

from tests.crash import workloads
from tests.crash.conftest import MakeFleet
from tests.crash.copies import Copies
from tests.crash.fleet import Fleet
from tests.crash.history import History
from tests.crash.oracle import judge

WORKLOADS = (workloads.letters, workloads.crowd, workloads.refusals, workloads.parking)
CUTS = 8
REFUSED = "Connection refused"


def cut(fleet: Fleet, history: History) -> None:
    """Again and again, at whatever moment of the work it comes."""
    for number in range(CUTS):
        history.commit(WORKLOADS[number % len(WORKLOADS)]())
        carried = fleet.line.carried
        fleet.until(lambda carried=carried: fleet.line.carried > carried, "something on the line")  # type: ignore[misc]
        assert fleet.line.cut()


def delay(fleet: Fleet, history: History) -> None:
    """Every piece, as on the way to the next continent."""
    fleet.line.delay_s = 0.02
    for workload in WORKLOADS:
        history.commit(workload())
    fleet.rest(history.ids())


def refuse(fleet: Fleet, history: History) -> None:
    """Amid the work, and until both nodes have been refused."""
    history.commit_and_see_arrive(workloads.crowd())
    fleet.line.refuse()
    history.commit(workloads.letters())
    for node in (fleet.relay, fleet.delivery):
        told = node.log().count(REFUSED)
        fleet.until(lambda node=node, told=told: node.log().count(REFUSED) > told, f"{node.name} is refused")  # type: ignore[misc]


def go_half_open(fleet: Fleet, history: History) -> None:
    """Amid the work, and without an end: what the nodes have in hand is done by others, over lines of their own."""
    history.commit_and_see_arrive(workloads.crowd())
    fleet.line.freeze()
    history.commit(workloads.letters())
    spares = [fleet.another_relay("threads"), fleet.another_delivery("threads")]
    fleet.rest(history.ids())
    for spare in spares:
        fleet.dismiss(spare)


BREAKS: dict[str, Callable[[Fleet, History], None]] = {
    "is cut": cut, "delays": delay, "refuses": refuse, "goes half-open": go_half_open,
}  # fmt: skip
LINES = {"database": "postgresql", "broker": "sqlite"}
SHORT = {("database", "threads", "is cut"), ("broker", "threads", "goes half-open")}


@pytest.mark.parametrize(
    ("to", "pool", "how"),
    [
        pytest.param(*case, marks=[] if case in SHORT else [pytest.mark.crash, pytest.mark.slow])
        for case in product(LINES, ("threads", "prefork"), BREAKS)
    ],
)
@pytest.mark.proves("T11", "T13")
@pytest.mark.xdist_group("crash lines")
def test_over_a_line_that_breaks_nothing_is_lost_and_every_second_copy_is_on_record(
    make_fleet: MakeFleet, to: str, pool: str, how: str
) -> None:
    fleet = make_fleet(LINES[to], pool, line_to=to)
    history = History(fleet)

    BREAKS[how](fleet, history)
    fleet.line.mend()
    history.commit(workloads.letters())
    fleet.rest(history.ids())

    assert judge(history.evidence(), Copies.ON_RECORD).problems == []
