"""Processes die at every point at which they can, with real workers, on both databases: nothing is lost, and nothing is sent
twice but where a send was cut off.
"""

from typing import Any

import pytest

from tests.crash.conftest import RESULT, MakeFleet
from tests.crash.matrix import CELLS, SHORT, Cell
from tests.crash.running import Run


def _cases(*, short: bool) -> list[Any]:
    return [
        pytest.param(
            database, pool, cell, id=f"{database}-{pool}-{cell.name}",
            marks=pytest.mark.xdist_group(f"crash {database} {pool}"),
        )
        for database in ("sqlite", "postgresql")
        for pool in ("prefork", "threads")
        for cell in CELLS
        if pool in cell.pools and (not short or cell.name in SHORT.get((database, pool), ()))
    ]  # fmt: skip


@pytest.mark.proves("R9", "R10", "T9", "T10", "T11", "T13")
@pytest.mark.parametrize(("database", "pool", "cell"), _cases(short=True))
def test_whoever_dies_nothing_is_lost_and_only_what_was_cut_off_is_sent_again(
    make_fleet: MakeFleet, record_property: Any, database: str, pool: str, cell: Cell
) -> None:
    assert_sound(make_fleet, record_property, database, pool, cell)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.parametrize(("database", "pool", "cell"), _cases(short=False))
def test_whoever_dies_anywhere_nothing_is_lost_and_only_what_was_cut_off_is_sent_again(
    make_fleet: MakeFleet, record_property: Any, database: str, pool: str, cell: Cell
) -> None:
    assert_sound(make_fleet, record_property, database, pool, cell)


def assert_sound(make_fleet: MakeFleet, record_property: Any, database: str, pool: str, cell: Cell) -> None:
    result = Run(make_fleet(database, pool), cell).carry_out()
    record_property(RESULT, {"database": database, "pool": pool, **result.to_json()})
    assert result.problems == []
