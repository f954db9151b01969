"""Take a rule out of a copy of the code, and the tests that stand for it fail: long, run by ``make test-rules``."""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.rules import runner
from tests.rules.rule import BOTH, ROOT, Rule
from tests.rules.table import RULES
from tests.servers import postgresql

COPIED = ("outbox", "workers", "config", "tests", "docs", "examples", "pyproject.toml")
PATIENCE_S = 5
"""Of a test that waits for what will not come any more."""
IMPORTED_ALREADY = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""By the runner, whose runs are the quicker for it."""
PLUGINS = [part for name in ("pytest_asyncio.plugin", "pytest_timeout", "xdist.plugin") for part in ("-p", name)]
"""Those that the tests and the configuration know; the others would take longer to load than the tests to run."""
MISTAKES = ("NameError", "SyntaxError", "TypeError", "AttributeError", "ImportError", "ModuleNotFoundError")
"""Whoever fails by one of these has noticed that the code was spoilt, and not that the rule is missing."""


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, to be spoilt."""
    copy = tmp_path_factory.mktemp("without")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    return copy


class Runner:
    """The test's end of :mod:`tests.rules.runner`."""

    def __init__(self, directory: Path, server_url: str) -> None:
        self._directory = directory
        self._environment = {
            "OUTBOX_TEST_POSTGRES_URL": server_url, "OUTBOX_TEST_PATIENCE_S": str(PATIENCE_S),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-m", runner.__name__], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def failures(self, tests: Sequence[str]) -> Iterator[str]:
        """The names of the tests, parameters included, that failed for want of the rule."""
        report, output = self._directory / "report.xml", self._directory / "output"
        arguments = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", *IMPORTED_ALREADY, *PLUGINS, *tests]
        order = {"directory": str(self._directory), "arguments": arguments, "environment": self._environment}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({**order, "output": str(output)}), file=self._process.stdin, flush=True)
        self._process.stdout.readline()
        assert report.exists(), output.read_text()
        for case in ElementTree.parse(report).iter("testcase"):
            failure = case.find("failure")
            if failure is not None and not failure.get("message", "").startswith(MISTAKES):
                yield case.get("name", "")
        report.unlink()

    def close(self) -> None:
        self._process.communicate("")


@pytest.fixture(scope="session")
def tests_of(workplace: Path, server_url: str) -> Iterator[Runner]:
    """Who runs tests on the copy."""
    found = Runner(workplace, server_url)
    yield found
    found.close()


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """One PostgreSQL server for all of them."""
    with postgresql.running() as server:
        yield server.create_database()


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("rules")
@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.name) for rules in RULES.values() for rule in rules])
def test_without_the_rule_the_tests_that_stand_for_it_fail(workplace: Path, tests_of: Runner, rule: Rule) -> None:
    file = workplace / rule.file
    source = file.read_text(encoding="utf-8")
    file.write_text(rule.removed_from(source), encoding="utf-8")
    try:
        failed = list(tests_of.failures(rule.tests))
    finally:
        file.write_text(source, encoding="utf-8")

    assert unmoved(rule, failed) == []


def unmoved(rule: Rule, failed: Sequence[str]) -> list[str]:
    """The tests that did not fail, and on which database."""
    noticed: dict[str, set[str]] = defaultdict(set)
    for name, _, parameters in (case.partition("[") for case in failed):
        # A test without a database in its name runs on the only one that it is about.
        noticed[name] |= {"", *({database for database in BOTH if database in parameters} or rule.databases)}
    return [
        f"{test} {database}".strip()
        for test in rule.tests
        for database in rule.databases or ("",)
        if database not in noticed[test.rpartition("::")[2]]
    ]
