"""A process dies while it makes the tables: they are all there or none is, and whoever comes next goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from outbox import Outbox
from tests.crash.arming import Act, Plans
from tests.crash.hand import Hand


@pytest.fixture
def hand() -> Iterator[Hand]:
    hand = Hand()
    yield hand
    hand.close()


@pytest.mark.parametrize(("moment", "tables_stand"), [("before_commit", False), ("committed", True)])
def test_a_process_killed_in_the_upgrade_leaves_all_of_it_or_nothing(
    hand: Hand, database_url: str, tmp_path: Path, moment: str, tables_stand: bool
) -> None:
    plans = tmp_path / "plans"
    plans.mkdir()
    Plans(plans).lay(f"upgrade.{moment}", {1: Act.KILL})

    assert hand.does("upgrade", plans, url=database_url) == -9

    engine = create_engine(database_url)
    assert bool(inspect(engine).get_table_names()) is tables_stand
    assert hand.does("upgrade", plans, url=database_url) == 0
    outbox = Outbox(database_url)
    outbox.check_schema()
    outbox.close()
    engine.dispose()
