"""Everything dies at any moment, again and again, while messages keep coming: ``make soak MINUTES=30``."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outbox.store.sqlite import LONGEST_WAL_BYTES
from tests.crash import gauges
from tests.crash.conftest import SOAK
from tests.crash.copies import Copies
from tests.crash.endurance import Limits
from tests.crash.fleet import Fleet
from tests.crash.oracle import judge
from tests.crash.reporting import line
from tests.crash.siege import Siege
from tests.crash.soaking import Minute, Soak
from tests.integration.celery.nodes import Nursery
from tests.servers import postgresql, valkey

MINUTES = float(os.environ.get("OUTBOX_SOAK_MINUTES", "0.5"))
SEED = int(os.environ.get("OUTBOX_SOAK_SEED", str(random.SystemRandom().randrange(10**6))))
LOGS = Path(__file__).parents[2] / "build"


@dataclass(frozen=True)
class Ground:
    """Where a soak takes place: each pool dies on one database and gets old on the other."""

    database: str
    mortal_pool: str
    veteran_pool: str
    limits: Limits


GROUNDS = [
    Ground("sqlite", "prefork", "threads", Limits(past_more=LONGEST_WAL_BYTES / gauges.MB)),
    Ground("postgresql", "threads", "prefork", Limits(past_more=1_500, wal_mb=2 * gauges.MOST_WAL_MB)),
]


@pytest.fixture
def make_soak(nursery: Nursery, tmp_path: Path) -> Iterator[Callable[[Ground], Soak]]:
    """A soak on servers of its own, which may be killed."""
    with ExitStack() as resources:

        def make(ground: Ground) -> Soak:
            broker = resources.enter_context(valkey.running())
            server, url = None, f"sqlite:///{tmp_path / 'outbox.db'}"
            if ground.database == "postgresql":
                server = resources.enter_context(postgresql.running_own(durable=True))
                url = server.create_database()
            fleet = Fleet(url, broker.url, ground.mortal_pool, tmp_path, nursery, deliveries=2)
            resources.callback(fleet.close)
            chance = random.Random(SEED)
            siege = Siege(fleet, broker, server, chance)
            resources.callback(siege.lift)
            veterans = [fleet.another_relay(ground.veteran_pool), fleet.another_delivery(ground.veteran_pool)]
            database = gauges.PostgreSQL(url) if server else gauges.SQLite(tmp_path / "outbox.db")
            return Soak(fleet, siege, database, veterans, chance, 60 * MINUTES)

        yield make


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + 900)
@pytest.mark.parametrize(
    "ground", [pytest.param(g, id=g.database, marks=pytest.mark.xdist_group(f"soak {g.database}")) for g in GROUNDS]
)
def test_under_ceaseless_fire_nothing_is_lost_nothing_grows_and_every_second_copy_is_on_record(
    make_soak: Callable[[Ground], Soak], record_property: Any, ground: Ground
) -> None:
    soak = make_soak(ground)
    LOGS.mkdir(exist_ok=True)
    with (LOGS / f"soak-{ground.database}.txt").open("w", buffering=1) as log:
        soak.carry_out(lambda minute: log.write(line(_fields(minute)) + "\n"))
    recovery_s = soak.come_to_rest()

    findings = judge(soak.history.evidence(), Copies.ON_RECORD)
    growth = soak.growth(ground.limits)

    told = {
        "database": ground.database, "killed pool": ground.mortal_pool, "spared pool": ground.veteran_pool,
        "length_min": MINUTES, "seed": SEED, "messages": findings.messages, "deaths": soak.deaths(),
        "at checkpoints": len(soak.history.deeds()), "struck": dict(soak.siege.strikes.most_common()), "lost": findings.lost,
        "duplicated": findings.duplicated, "cut off": findings.cut_off, "rest_s": recovery_s,
        "database away": soak.away.total(), "problems": [*findings.problems, *growth], "minutes": soak.lines(),
    }  # fmt: skip
    record_property(SOAK, told)
    assert findings.problems == []
    assert growth == []


def _fields(minute: Minute) -> dict[str, Any]:
    return dict(vars(minute))
