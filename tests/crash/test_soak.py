"""Everything dies at any moment, again and again, while messages keep coming: ``make soak MINUTES=30``."""

import os
import random
import time
from typing import Any

import pytest

from tests.crash import workloads
from tests.crash.arming import Act
from tests.crash.conftest import RESULT, MakeFleet
from tests.crash.fleet import Fleet
from tests.crash.history import History
from tests.crash.matrix import CELLS
from tests.crash.oracle import judge
from tests.crash.running import Result

MINUTES = float(os.environ.get("OUTBOX_SOAK_MINUTES", "0.5"))
SEED = int(os.environ.get("OUTBOX_SOAK_SEED", str(random.SystemRandom().randrange(10**6))))
BACKLOG = 200
"""Messages not at rest; above them the application waits."""
MIX = (
    workloads.letters, workloads.crowd, workloads.refusals, workloads.parking, workloads.asking, workloads.entries,
    workloads.singles,
)  # fmt: skip
CHECKPOINTS = sorted({cell.checkpoint.partition("@")[0] for cell in CELLS if not (cell.by_hand or cell.before or cell.after)})


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + 300)
@pytest.mark.parametrize(("database", "pool"), [("sqlite", "prefork"), ("postgresql", "threads"), ("postgresql", "prefork")])
def test_under_ceaseless_fire_nothing_is_lost_and_every_second_copy_is_on_record(
    make_fleet: MakeFleet, record_property: Any, database: str, pool: str
) -> None:
    fleet, chance = make_fleet(database, pool, deliveries=2), random.Random(SEED)
    history = History(fleet)
    until = time.monotonic() + 60 * MINUTES
    while time.monotonic() < until:
        _lay_plans(fleet, chance)
        history.commit(chance.choice(MIX)())
        fleet.until(lambda: len(fleet.under_way()) < BACKLOG, "room for more")
    last_at = time.time()
    fleet.plans.lift()
    fleet.rest(history.ids())

    findings = judge(history.evidence(), may_repeat=True)

    result = Result(
        f"soak (seed {SEED})", len(history.deeds()), findings.messages, findings.lost, findings.duplicated,
        round(time.time() - last_at, 2), findings.problems,
    )  # fmt: skip
    record_property(RESULT, {"database": database, "pool": pool, **result.to_json()})
    assert findings.problems == []


def _lay_plans(fleet: Fleet, chance: random.Random) -> None:
    """Two new traps; those that nobody stepped into so far are taken away."""
    fleet.plans.lift()
    for checkpoint in chance.sample(CHECKPOINTS, 2):
        fleet.plans.lay(checkpoint, {chance.randint(1, 8): chance.choice([Act.KILL, Act.NODE])})
