"""A worker stands still for longer than its lease, its messages are sent by another, and then it wakes and goes on."""

import os
import signal
from itertools import product

import pytest

from tests.crash.arming import Act
from tests.crash.conftest import MakeFleet
from tests.crash.copies import Copies
from tests.crash.history import History
from tests.crash.oracle import judge
from tests.crash.workloads import Order

MOMENTS = {
    "task.received": Copies.NONE,
    "take.committed": Copies.NONE,
    "send.before": Copies.ON_RECORD,
    "request.sent": Copies.ON_RECORD,
    "send.after": Copies.ON_RECORD,
    "settle_and_take.before_commit": Copies.ON_RECORD,
    "settle_and_take.committed": Copies.NONE,
}
"""Where it stands still, and whether its message is out, or cannot be held back any more, when it wakes: then another copy is
on record.
"""


SHORT = {("postgresql", "take.committed")}
HOLDS_THE_WRITE_LOCK = ("sqlite", "settle_and_take.before_commit")


@pytest.mark.parametrize(
    ("database", "moment"),
    [
        pytest.param(*case, marks=[] if case in SHORT else [pytest.mark.crash])
        for case in product(("sqlite", "postgresql"), MOMENTS)
        if case != HOLDS_THE_WRITE_LOCK
    ],
)
@pytest.mark.proves("T5", "T9")
@pytest.mark.xdist_group("crash still")
def test_a_worker_that_wakes_after_its_lease_begins_nothing_and_changes_nothing(
    make_fleet: MakeFleet, database: str, moment: str
) -> None:
    fleet = make_fleet(database, "threads")
    history = History(fleet)
    fleet.plans.lay(f"{moment}@delivery", {1: Act.STOP})

    history.commit([Order("plain") for _ in range(3)])
    fleet.until(history.deeds, "a worker that stands still")
    fleet.plans.lift()
    [deed] = history.deeds()
    spare = fleet.another_delivery("threads")
    fleet.rest(history.ids())
    os.kill(deed.pid, signal.SIGCONT)
    fleet.delivery.stop()  # a warm shutdown: it ends what it had begun
    fleet.dismiss(spare)

    assert judge(history.evidence(), MOMENTS[moment]).problems == []
