"""A broker may lose, repeat, reorder and hold back whatever it is given: the database is the only source of truth."""

import os
import random
from itertools import product

import pytest

from tests.crash import workloads
from tests.crash.conftest import MakeFleet
from tests.crash.copies import Copies
from tests.crash.history import History
from tests.crash.mischief import Mischief
from tests.crash.oracle import judge

SEED = int(os.environ.get("OUTBOX_MISCHIEF_SEED", str(random.SystemRandom().randrange(10**6))))
ENOUGH = 5
"""Of each kind, and no more: a message whose every loss it was comes again within the fleet's patience."""
QUEUES = ["outbox.relay", *(f"outbox.{name}" for name in ("plain", "webhook", "single", "ordered", "crowd", "entry"))]
SHORT = ("postgresql", "threads")


@pytest.mark.parametrize(
    ("database", "pool"),
    [
        pytest.param(*case, marks=[] if case == SHORT else [pytest.mark.crash, pytest.mark.slow])
        for case in product(("sqlite", "postgresql"), ("threads", "prefork"))
    ],
)
@pytest.mark.xdist_group("crash mischief")
def test_whatever_a_broker_does_to_its_messages_each_is_sent_once_and_in_its_order(
    make_fleet: MakeFleet, database: str, pool: str
) -> None:
    fleet = make_fleet(database, pool)
    history = History(fleet)
    mischief = Mischief(fleet.settings.broker, QUEUES, ENOUGH, random.Random(SEED))
    with mischief:
        while mischief.left:
            for workload in (workloads.singles, workloads.letters, workloads.crowd, workloads.refusals, workloads.entries):
                history.commit(workload())
            fleet.rest(history.ids())
    fleet.until(lambda: not mischief.waiting(), "the last copies to be received")
    mischief.close()

    findings = judge(history.evidence(), Copies.NONE)

    assert (findings.problems, findings.duplicated) == ([], 0), f"seed {SEED}"
