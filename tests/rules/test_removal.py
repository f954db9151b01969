"""Take a rule out of a copy of the code, and the tests that stand for it fail: long, run by ``make test-rules``."""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.rules.rule import BOTH, ROOT, Rule
from tests.rules.table import RULES
from tests.servers import postgresql

COPIED = ("outbox", "workers", "config", "tests", "docs", "examples", "pyproject.toml")
PATIENCE_S = 5
"""Of a test that waits for what will not come any more."""
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
def test_without_the_rule_the_tests_that_stand_for_it_fail(workplace: Path, server_url: str, rule: Rule) -> None:
    file = workplace / rule.file
    source = file.read_text(encoding="utf-8")
    file.write_text(rule.removed_from(source), encoding="utf-8")
    try:
        failed = _failed(workplace, server_url, rule)
    finally:
        file.write_text(source, encoding="utf-8")

    databases = rule.databases or ("",)
    unmoved = [f"{test} on {database}" for test in rule.tests for database in databases if database not in failed[_name(test)]]
    assert unmoved == []


def _failed(workplace: Path, server_url: str, rule: Rule) -> Mapping[str, set[str]]:
    """By test, the databases on which it fails; and ``""`` where it fails at all."""
    report = workplace / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *rule.tests]
    environment = {**os.environ, "OUTBOX_TEST_POSTGRES_URL": server_url, "OUTBOX_TEST_PATIENCE_S": str(PATIENCE_S)}
    run = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert report.exists(), run.stdout + run.stderr
    failed: dict[str, set[str]] = defaultdict(set)
    for case in ElementTree.parse(report).iter("testcase"):
        failure = case.find("failure")
        if failure is None or failure.get("message", "").startswith(MISTAKES):
            continue
        name, _, parameters = case.get("name", "").partition("[")
        named = {database for database in BOTH if database in parameters}
        # A test without the database in its name runs on the only one that it is about.
        failed[name] |= {"", *(named or rule.databases)}
    report.unlink()
    return failed


def _name(test: str) -> str:
    return test.rpartition("::")[2]
