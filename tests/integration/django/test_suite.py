"""The suites of Django test cases in ``suite/``, run by Django's own test runner: it makes its database by our migrations."""

import re
from pathlib import Path
from typing import Any

import django
import pytest

from tests.integration.django.conftest import Manage

IN_MEMORY = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": ":memory:",
    "OPTIONS": {"transaction_mode": "IMMEDIATE"},
}
SINCE = {"tasking": (6, 0)}
"""Suites of what Django has from a release on."""
SUITES = sorted(
    path.stem
    for path in (Path(__file__).parent / "suite").glob("[a-z]*.py")
    if SINCE.get(path.stem, (0, 0)) <= django.VERSION[:2]
)


@pytest.mark.proves("R1", "R21")
@pytest.mark.parametrize("suite", SUITES)
def test_the_django_suite_passes(manage: Manage, suite: str) -> None:
    _run(manage, suite)


@pytest.mark.parametrize("suite", ["enqueueing", "helpers"])
def test_the_django_suite_passes_where_the_test_database_is_in_memory(sqlite_url: str, suite: str) -> None:
    _run(Manage(sqlite_url), suite, DATABASES={"default": IN_MEMORY, "same": {**IN_MEMORY, "TEST": {"MIRROR": "default"}}})


def _run(manage: Manage, suite: str, **settings: Any) -> None:
    told = manage("test", f"tests.integration.django.suite.{suite}", **settings)
    ran = re.search(r"Ran (\d+) tests", told)
    assert ran is not None, told
    assert int(ran[1]) > 2
    assert "skipped" not in told, told
