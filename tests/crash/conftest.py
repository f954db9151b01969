"""Fleets, one at a time for each database and pool, and the report of every run of the matrix."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.crash import reporting
from tests.crash.fleet import Fleet
from tests.crash.lives import Stage
from tests.integration.celery.nodes import Nursery
from tests.servers import postgresql
from tests.servers.proxy import line_to

RESULT = "crash"
RECOVERY = "recovery"
SOAK = "soak"
REPORT = "CRASH_REPORT"
"""Where the JSON goes, if anywhere."""
SOAK_REPORT = "OUTBOX_SOAK_REPORT"
"""The same for that of the soak."""

MakeFleet = Callable[..., Fleet]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where the processes come from."""
    nursery = Nursery("tests.crash.application")
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def make_fleet(
    request: pytest.FixtureRequest, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeFleet]:
    """A fleet on a database (`sqlite`, `postgresql`) with a pool (`prefork`, `threads`); there is one at a time.

    ``line_to`` (`database`, `broker`) gives its nodes a line that the test can break; ``server=True`` a PostgreSQL of its own.

    It serves one test after the other until one fails, whose messages may still be about.
    """
    current: dict[tuple[object, ...], Fleet] = {}

    def make(database: str, pool: str, **options: Any) -> Fleet:
        key = (database, pool, request.session.testsfailed, *options.items())
        if key not in current:
            resources.close()
            current.clear()
            current[key] = _fleet(request, database, pool, tmp_path_factory.mktemp("fleet"), nursery, options, resources)
        return current[key]

    with ExitStack() as resources:
        yield make


def _fleet(
    request: pytest.FixtureRequest, database: str, pool: str, directory: Path, nursery: Nursery, options: Any,
    resources: ExitStack,
) -> Fleet:  # fmt: skip
    url = f"sqlite:///{directory / 'outbox.db'}"
    if options.get("server"):
        options["server"] = server = resources.enter_context(postgresql.running_own(durable=True))
        url = server.create_database()
    elif database == "postgresql":
        url = resources.enter_context(request.getfixturevalue("postgres_server").database())
    broker = request.getfixturevalue("redis_server")
    broker.flush()
    if what := options.pop("line_to", None):
        line, through = resources.enter_context(line_to({"database": url, "broker": broker.url}[what]))
        options |= {"line": line, "through": {what: through}}
    fleet = Fleet(url, broker.url, pool, directory, nursery, **options)
    resources.callback(fleet.close)
    return fleet


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An outbox on each database for the lives of a module. What it could not record, its next task records."""
    with ExitStack() as resources, pytest.MonkeyPatch.context() as patch:
        patch.setattr("outbox.keeping.RETRY_S", 3600.0)
        if request.param == "sqlite":
            stage = Stage(f"sqlite:///{tmp_path_factory.mktemp('stage') / 'outbox.db'}")
        else:
            url = resources.enter_context(request.getfixturevalue("postgres_server").database())
            line, through = resources.enter_context(line_to(url))
            stage = Stage(through, line)
        resources.callback(stage.close)
        stage.outbox.upgrade_schema()
        yield stage


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell of every cell that ran, in whatever process it did."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    told = {
        title: [value for report in reports for name, value in report.user_properties if name == title]
        for title in (RESULT, RECOVERY, SOAK)
    }
    for soak in told[SOAK]:
        terminalreporter.section(f"{SOAK}: {soak['database']}")
        terminalreporter.write_line(reporting.table(soak["minutes"]))
        terminalreporter.write_line(reporting.told(soak))
    for title, results in told.items():
        if results and title != SOAK:
            terminalreporter.section(title)
            terminalreporter.write_line(reporting.table(results))
    if told[RESULT]:
        terminalreporter.write_line(reporting.sums(told[RESULT]))
    for variable, titles in ((REPORT, (RESULT, RECOVERY)), (SOAK_REPORT, (SOAK,))):
        if target := os.environ.get(variable):
            Path(target).write_text(json.dumps({title: told[title] for title in titles}, indent=1) + "\n", encoding="utf-8")
