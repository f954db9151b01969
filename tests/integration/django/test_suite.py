"""The suites of Django test cases in ``suite/``, run by Django's own test runner: it makes its database by our migrations."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import django
import pytest

from tests.integration.django.conftest import Manage

PACKAGE = "tests.integration.django.suite"
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
@pytest.mark.long_on("sqlite")
@pytest.mark.timeout(300)
def test_the_django_suites_pass(manage: Manage) -> None:
    _run(manage, SUITES)


def test_the_django_suites_pass_where_the_test_database_is_in_memory(sqlite_url: str) -> None:
    in_memory = {"default": IN_MEMORY, "same": {**IN_MEMORY, "TEST": {"MIRROR": "default"}}}
    _run(Manage(sqlite_url), ["enqueueing", "helpers"], DATABASES=in_memory)


def _run(manage: Manage, suites: Sequence[str], **settings: Any) -> None:
    told = manage("test", "--verbosity", "2", *(f"{PACKAGE}.{suite}" for suite in suites), **settings)
    assert "skipped" not in told, told
    for suite in suites:
        assert len(re.findall(rf"\({re.escape(PACKAGE)}\.{suite}\..* ok$", told, re.MULTILINE)) > 2, told
