"""Stacks of real processes: each test gets its own database, broker, ledger and workers, and leaves none behind."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.celery.application import Settings, shorter_clocks
from tests.integration.celery.nodes import Nursery
from tests.integration.celery.stack import Stack

MakeStack = Callable[..., Stack]
_STACKS = pytest.StashKey[list[Stack]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    if report.failed:
        for stack in item.stash.get(_STACKS, []):
            report.sections.extend((f"log of {name}", log[-20_000:]) for name, log in stack.logs())
    return report


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where the processes of all tests come from."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def make_stack(
    request: pytest.FixtureRequest, tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeStack]:
    """Build a stack on a database and a broker; settings as in :class:`Settings`."""
    stacks = request.node.stash.setdefault(_STACKS, [])

    def make(database: str, broker: str, *, nudging: bool = False, **settings: Any) -> Stack:
        directory = tmp_path / f"stack-{len(stacks) + 1}"
        directory.mkdir()
        chosen = Settings(database, broker, str(directory / "ledger"), **settings)
        # The test's own relay keeps to the same clocks as the workers.
        for module, name, value in shorter_clocks(chosen):
            monkeypatch.setattr(module, name, value)
        stacks.append(Stack(chosen, directory, nursery, nudging=nudging))
        return stacks[-1]

    yield make
    for stack in stacks:
        stack.close()


@pytest.fixture(params=["prefork", "threads"])
def pool(request: pytest.FixtureRequest) -> str:
    """Celery's pools: the test runs on each."""
    return str(request.param)
