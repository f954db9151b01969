"""What a page costs the database does not grow with the table: in steps of SQLite's machine, which no other load changes."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from outbox import Outbox
from outbox.testing import FakeClock
from outbox.web import Open, Role, create_app
from tests.contract.filling import fill
from tests.contract.steps import CHANNEL, NOW
from tests.integration.web.browsing import Browser

pytestmark = pytest.mark.xdist_group("long history")  # what it stands on takes long to make: not in every process

SHORT, LONG = 100_000, 400_000
"""Messages that have ended; both are beyond where counts stop, and what a page looks at."""
EVERY = 100
PAGES = [
    "/", "/messages", "/messages?status=delivered", "/messages?status=failed_terminal", "/messages?status=queued",
    f"/messages?channel={CHANNEL}", "/messages?target=nowhere", "/messages?status=delivered&target=nowhere",
    "/messages?q=nothing", "/messages/parked-7-01", "/api/v1/overview", "/api/v1/messages?limit=500",
]  # fmt: skip

Cost = Callable[[str], int]


@pytest.fixture(scope="module")
def costs(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cost, Cost]]:
    """What a page costs beside a short history, and beside a long one."""
    with ExitStack() as stack:
        yield tuple(  # type: ignore[misc]
            _cost_of(stack, sqlite_template, tmp_path_factory.mktemp("history") / "outbox.db", count) for count in (SHORT, LONG)
        )


def _cost_of(stack: ExitStack, template: Path, file: Path, count: int) -> Cost:
    shutil.copy(template, file)
    outbox = stack.enter_context(closing(Outbox(f"sqlite:///{file}", clock=FakeClock(NOW))))
    fill(outbox.store, count)  # type: ignore[arg-type]
    outbox.store.engine.dispose()  # type: ignore[attr-defined]
    steps = 0

    @event.listens_for(outbox.store.engine, "connect")  # type: ignore[attr-defined]
    def watch(connection: Any, _record: object) -> None:
        def step() -> None:
            nonlocal steps
            steps += EVERY

        connection.set_progress_handler(step, EVERY)

    browser = Browser(create_app(outbox, auth=Open("ada", Role.ADMIN)))

    def cost(path: str) -> int:
        nonlocal steps
        steps = 0
        assert browser.get(path).status_code == 200
        return steps

    return cost


@pytest.mark.parametrize("path", PAGES)
def test_no_page_costs_more_beside_a_longer_history(costs: tuple[Cost, Cost], path: str) -> None:
    beside_a_short_one, beside_a_long_one = (cost(path) for cost in costs)
    assert beside_a_long_one < 1.2 * beside_a_short_one + 10 * EVERY
